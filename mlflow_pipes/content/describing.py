"""What an artifact is, in a few words for people."""

from __future__ import annotations

from typing import cast

from mlflow_pipes.content.codec import Described
from mlflow_pipes.content.registry import named
from mlflow_pipes.errors import PipesError
from mlflow_pipes.model.artifact import Artifact, Collection


def describe(artifact: Artifact) -> str:
    """Return a short description, such as ``42``, ``list of 4`` or ``folder data, 5 files``; reads no datastore."""
    if isinstance(artifact, Collection):
        if artifact.kind == "record":
            return f"{artifact.type_name.rpartition('.')[2].rpartition(':')[2]}({', '.join(map(str, artifact.keys))})"
        return f"{artifact.kind} of {len(artifact.items):,}"
    try:
        codec = named(artifact.codec)
    except PipesError:  # a third party's codec that is not installed here
        return f"{artifact.codec} {artifact.form}".rstrip()
    if hasattr(codec, "describe"):  # to ask isinstance for the protocol takes 10 µs, and it is asked for each step
        return cast(Described, codec).describe(artifact)
    return f"{artifact.codec} {artifact.form}".rstrip() + f", {artifact.digest.size_bytes:,} bytes"
