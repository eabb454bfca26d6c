"""The identity of an MLflow model folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_pipes.digests import Hasher, digest_record
from mlflow_pipes.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path

# What MLflow writes anew at every save of one and the same model, each a key at the top of the MLmodel file.
_VOLATILE = re.compile(rb"(utc_time_created|run_id|model_uuid|model_id|artifact_path|model_size_bytes|prompts)\s*:")


def model_digest(folder: Path) -> str:
    """Return the identity of a model folder: of its files, without when and in which run it was saved.

    Costs one read of all files.

    Raises:
        ArgumentError: *folder* is no MLflow model folder.
    """
    if not (folder / "MLmodel").is_file():
        raise ArgumentError(f"{folder} is no MLflow model folder: it has no file MLmodel")
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    parts: list[str | int] = []
    for name in files:
        hasher = Hasher()
        if name == "MLmodel":
            lines = (folder / name).read_bytes().splitlines()
            hasher.update(b"\n".join(line for line in lines if not _VOLATILE.match(line)))
        else:
            with (folder / name).open("rb") as stream:
                while piece := stream.read(1 << 20):
                    hasher.update(piece)
        digest = hasher.digest()
        parts += (name, digest.hash, digest.size_bytes)
    return digest_record("pipes.model-folder/1", parts)
