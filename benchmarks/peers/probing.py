"""Does an edit of a function that a cached step calls lead to a new run? Asked by editing, for every tool."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.peers.catalogue import HERE, NO_CACHE, Peer
from benchmarks.peers.contained import Outcome, own_folder, run_contained
from benchmarks.peers.environments import NotInstalledError, environ_of, python_of
from benchmarks.peers.notes import Notes

_NEARBY = "probe_nearby.py"


@dataclass(frozen=True)
class Edit:
    """A change of one place of a program, and what a step of 10 must then give."""

    what: str
    file: str | None
    before: str
    after: str
    right: int


#: ``file`` None is the probe itself. The first edits nothing: a tool that does not reuse then has no cache to be stale.
EDITS = (
    Edit("nothing", None, "x + 1", "x + 1", 11),
    Edit("the step itself", None, ") + 0}", ") + 5}", 16),
    Edit("a function that it calls, same file", None, "x + 1", "x + 2", 12),
    Edit("a function that it calls, another file", _NEARBY, "x * 1", "x * 3", 33),
)


def probe(peers: Sequence[Peer], notes: Notes, *, limit_s: float) -> dict[str, list[str]]:
    """Return what each tool did after each of ``EDITS``, in words."""
    answers: dict[str, list[str]] = {}
    for peer in peers:
        if peer.name in answers:
            continue
        sys.stdout.write(f"probe: {peer.name}\n")
        sys.stdout.flush()
        if peer.name in NO_CACHE:
            answers[peer.name] = ["not applicable"] * len(EDITS)
        else:
            answers[peer.name] = [_after(edit, peer, notes, limit_s) for edit in EDITS]
    return answers


def _after(edit: Edit, peer: Peer, notes: Notes, limit_s: float) -> str:
    """Return what a tool did after an edit."""
    try:
        both = notes.outcome(f"probe, {peer.name}, {edit.what}", lambda: _before_and_after(edit, peer, limit_s))
        first, second = _printed(both)
    except (NotInstalledError, _ProbeError) as error:
        return f"failed: {error}"
    return _verdict(first, second, edit.right)


def _before_and_after(edit: Edit, peer: Peer, limit_s: float) -> Outcome:
    """Run a copy of the probe, edit it, run it again; return the outcome of the second, with what both printed."""
    with own_folder() as folder:
        project, state = folder / "project", folder / "state"
        project.mkdir()
        state.mkdir()
        (project / "pipes.toml").touch()  # our tool's mark of a project; the others do not look at it
        for file in (peer.probe, HERE / _NEARBY):
            shutil.copy(file, project)
        command = [python_of(peer), project / peer.probe.name, state]

        def run_once() -> Outcome:
            return run_contained(command, folder, cwd=project, quiet_s=limit_s, environ=environ_of(peer))

        before = run_once()
        if before.exit_code != 0:
            return before
        _edit(project / (edit.file or peer.probe.name), edit)
        after = run_once()
    return replace(after, stdout=f"{before.stdout}\n{after.stdout}")


class _ProbeError(Exception):
    pass


def _printed(both: Outcome) -> tuple[tuple[int, str], tuple[int, str]]:
    """Return the value and the mark of the computation that it came from, before and after the edit."""
    found = re.findall(r"PROBE (\d+) ([0-9a-f]{32})", both.stdout)
    if both.exit_code != 0 or len(found) != 2:
        raise _ProbeError(both.reason)
    (first, first_mark), (second, second_mark) = found
    return (int(first), first_mark), (int(second), second_mark)


def _edit(file: Path, edit: Edit) -> None:
    text = file.read_text(encoding="utf-8")
    if text.count(edit.before) != 1:
        raise SystemExit(f"{file.name} must hold {edit.before!r} once: it is where the probe is edited")
    file.write_text(text.replace(edit.before, edit.after), encoding="utf-8")


def _verdict(first: tuple[int, str], second: tuple[int, str], right: int) -> str:
    if first[0] != 11:
        return f"failed: gave {first[0]}, not 11, before any edit"
    if second[0] == right:
        return "reused" if second[1] == first[1] else "ran again"
    return "**stale result**" if second == first else f"failed: gave {second[0]}, not {right}"
