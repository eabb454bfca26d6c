"""Whether the source files of this machine are those that a step's key was made of."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import StepError

if TYPE_CHECKING:
    from collections.abc import Iterable

Signature: TypeAlias = "tuple[int, int, int]"  # inode, size, mtime_ns


class SourceChangedError(StepError):
    """A first-party file is not the one that was fingerprinted, so the step must not run under that key."""


class Sources:
    """What this process knows of source files: hashes by (file, stat), and of which content a module was imported."""

    def __init__(self) -> None:
        self._hashes: dict[str, tuple[Signature, str]] = {}
        self._imported: dict[str, tuple[str, Any]] = {}  # file -> hash, module spec (a reload makes a new spec)

    def verify(self, sources: Iterable[tuple[str, str]]) -> None:
        """Check that each file holds what its hash says, and that no module in memory is of another content.

        Costs a stat a file; a file is read when its stat is new.

        Raises:
            SourceChangedError: naming the file.
        """
        for file, expected in sources:
            imported = self._imported.get(file)
            if imported is not None and imported[0] != expected:
                if imported[1] is _specs_by_file().get(file):
                    raise SourceChangedError(
                        f"{file} was edited after this process imported it: start a new process, or reload the module"
                    )
                del self._imported[file]
            if self._hash(file) != expected:
                raise SourceChangedError(
                    f"{file} was edited after the run was planned: its code is not what the step's key says. Run again."
                )

    def remember_imports(self, sources: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Remember of which content the loaded modules among *sources* are; return those not loaded (yet)."""
        specs = _specs_by_file()
        missing = []
        for file, expected in sources:
            if file in specs:
                self._imported.setdefault(file, (expected, specs[file]))
            else:
                missing.append((file, expected))
        return tuple(missing)

    def _hash(self, file: str) -> str:
        try:
            stat = os.stat(file)  # noqa: PTH116 - a Path costs more than the call, and this is the hot path
            signature = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            known = self._hashes.get(file)
            if known is None or known[0] != signature:
                known = self._hashes[file] = (signature, digest_bytes(Path(file).read_bytes()).hash)
        except OSError as error:
            raise SourceChangedError(
                f"{file} cannot be read ({error.strerror}), but the step's key was made of it. Run again."
            ) from error
        return known[1]


def _specs_by_file() -> dict[str, Any]:
    """Return the specs of all imported modules by source file. O(imported modules): not for the hot path."""
    found = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            found[file] = getattr(module, "__spec__", None)
    return found
