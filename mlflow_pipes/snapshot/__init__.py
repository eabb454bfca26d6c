"""Snapshots: the first-party code that a run needs, as a Merkle tree in the datastore, and laid out where it is needed.

Orchestrators take them (``taking``), machines that run steps unpack them (``unpacking``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mlflow_pipes.digests import Digest


class Snapshot(NamedTuple):
    """First-party code as it was at one moment.

    Attributes:
        root: manifest of a Merkle tree (``content.tree``) that begins at the file system's root: files of several
            folders keep their paths, so that wherever it is unpacked, one prefix leads from the one to the other.
        path: absolute folders of the orchestrator's ``sys.path`` that it holds, in order.
        cwd: the orchestrator's working folder.
        files: how many it holds.
    """

    root: Digest
    path: tuple[str, ...] = ()
    cwd: str = "/"
    files: int = 0
