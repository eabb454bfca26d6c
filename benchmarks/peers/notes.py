"""What finished programs said, kept in a file: a measurement that was cut off goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.peers.contained import Outcome


class Notes:
    """Outcomes by name, one JSON line each; the first line says under what they were noted.

    Args:
        file: where they are. conditions: what must be the same for notes to belong to one measurement.
        beginning: what is said of its start, such as the load of the machine. resume: go on with what is there.

    Raises:
        SystemExit: the notes to go on with were made under other conditions, or are not there.
    """

    def __init__(
        self, file: Path, conditions: dict[str, object], beginning: dict[str, float | str], *, resume: bool
    ) -> None:
        self._file = file
        self._outcomes: dict[str, Outcome] = {}
        self.beginning = beginning
        file.parent.mkdir(parents=True, exist_ok=True)
        if resume:
            self._read(conditions)
        else:
            file.write_text(json.dumps({"conditions": conditions, "beginning": beginning}) + "\n", encoding="utf-8")

    def _read(self, conditions: dict[str, object]) -> None:
        if not self._file.exists():
            raise SystemExit(f"nothing to resume: {self._file} is not there; leave --resume away")
        first, *lines = self._file.read_text(encoding="utf-8").splitlines()
        noted = json.loads(first)
        if noted["conditions"] != json.loads(json.dumps(conditions)):
            raise SystemExit(f"{self._file} is of another measurement, {noted['conditions']}; leave --resume away")
        self.beginning = noted["beginning"]
        for line in lines:
            note = json.loads(line)
            self._outcomes[note["name"]] = Outcome(**note["outcome"])

    def outcome(self, name: str, carry_out: Callable[[], Outcome]) -> Outcome:
        """Return what is noted under a name, or carry it out and note it."""
        if name not in self._outcomes:
            done = carry_out()
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"name": name, "outcome": asdict(done)}) + "\n")
            self._outcomes[name] = done
        return self._outcomes[name]
