"""Garbage collection: what neither a kept run nor a kept cache entry reaches is removed.

Order is what makes it safe next to running pipelines. Entries go first, in a transaction: from then on no look-up
answers with them. While any run is under way, outputs of entries that went just now stay until next time (a run may
have been answered a moment before), and so do all blobs written since the oldest such run began. Blobs younger than a
grace period always stay: their writer has not told the ledger of them yet (datastores refresh a blob's time when it is
written again).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.digests import Digest
from mlflow_pipes.model.artifact import from_json
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace.logs import log_file

if TYPE_CHECKING:
    from mlflow_pipes.workspace.workspace import Workspace

# Blobs younger than this always stay.
GRACE_S = 3600.0
# Files laid out for reading, and what crashed workers left: removed after a day, and only while nothing runs.
_FOLDERS_STAY_S = 86400.0
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was removed, or would be (*dry_run*).

    Attributes:
        freed_bytes: of blobs, logs, checked-out and scratch files.
        kept_bytes: of the blobs that stay.
    """

    dry_run: bool
    entries: int
    blobs: int
    logs: int
    folders: int
    freed_bytes: int
    kept_bytes: int
    kept_runs: int


def doomed_blobs(
    blobs: Iterable[tuple[Digest, float]], reachable: AbstractSet[str], written_before: float
) -> tuple[list[Digest], int]:
    """Return the blobs to remove, given (digest, time written) of all and hashes of the reachable; and kept bytes."""
    doomed: list[Digest] = []
    kept_bytes = 0
    for digest, written_at in blobs:
        if digest.hash in reachable or written_at >= written_before:
            kept_bytes += digest.size_bytes
        else:
            doomed.append(digest)
    return doomed, kept_bytes


def collect(workspace: Workspace, *, keep_days: float = 30.0, keep_runs: int = 10, dry_run: bool = False) -> GcReport:
    """Remove what no kept run or cache entry reaches; return what was removed.

    Kept are runs under way, runs started in the last *keep_days*, and the newest *keep_runs* of each pipeline; cache
    entries made in that time or used by kept runs. Records of older runs stay, their outputs and logs go.

    Args:
        workspace: that is cleaned.
        keep_days: age in days.
        keep_runs: number of runs a pipeline.
        dry_run: change nothing, only tell.

    Cost: O(blobs + entries + steps of kept runs). Safe while pipelines run and while another collection runs.
    """
    from mlflow_pipes.workspace.ledger.sweep import sweep

    workspace.runs.mark_interrupted()
    now = workspace.clock.now()
    swept = sweep(workspace.ledger.database, since=now - keep_days * _DAY_S, newest=keep_runs, dry_run=dry_run)
    written_before = now - GRACE_S
    if swept.live_since is not None:
        written_before = min(written_before, swept.live_since - GRACE_S)
    doomed, kept_bytes = doomed_blobs(workspace.datastore.blobs(), _reachable(workspace, swept.roots), written_before)
    if not dry_run:
        workspace.datastore.delete(doomed)
    freed_bytes = sum(digest.size_bytes for digest in doomed)

    logs = [file for run_id in swept.gone if (file := log_file(workspace.folder, run_id)).exists()]
    folders = [] if swept.live_since is not None else _old_folders(workspace.folder, now - _FOLDERS_STAY_S)
    for path in [*logs, *folders]:
        freed_bytes += _size_bytes(path)
        if not dry_run:
            _remove(path)
    return GcReport(
        dry_run=dry_run,
        entries=swept.dropped,
        blobs=len(doomed),
        logs=len(logs),
        folders=len(folders),
        freed_bytes=freed_bytes,
        kept_bytes=kept_bytes,
        kept_runs=len(swept.kept),
    )


def _reachable(workspace: Workspace, roots: Iterable[str]) -> set[str]:
    from mlflow_pipes import content

    return {blob.hash for text in set(roots) for blob in content.blobs_of(from_json(text), workspace.datastore)}


def _old_folders(folder: Path, before: float) -> list[Path]:
    found = []
    for name in ("checkout", "scratch"):
        with os.scandir(folder / name) as entries:
            found += [Path(entry.path) for entry in entries if entry.stat(follow_symlinks=False).st_mtime < before]
    return found


def _size_bytes(path: Path) -> int:
    """Return the bytes that removing a file or folder frees; files that have another hard link do not count."""
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    states = (file.lstat() for file in files)
    return sum(state.st_size for state in states if state.st_nlink == 1)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for folder in [path, *(inner for inner in path.rglob("*") if inner.is_dir() and not inner.is_symlink())]:
            folder.chmod(0o700)  # laid-out folders are read-only
        shutil.rmtree(path, ignore_errors=True)  # another collection may be at it too
    else:
        path.unlink(missing_ok=True)
