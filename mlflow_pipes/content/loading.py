"""From an artifact to the value, as its consumer wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_pipes.content import wanted as asked
from mlflow_pipes.content.codec import Stored
from mlflow_pipes.content.records import build, class_for
from mlflow_pipes.content.registry import named
from mlflow_pipes.errors import BlobError
from mlflow_pipes.hints import field_hints, is_typed_dict
from mlflow_pipes.model.artifact import Artifact, Collection, Leaf

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_pipes.ports import Datastore


def load(artifact: Artifact, datastore: Datastore, wanted: Any = Any, *, checkout: Path | None = None) -> Any:
    """Return the value of an artifact; the caller owns it and may change it.

    Args:
        artifact: what ``store`` returned.
        datastore: where its blobs are.
        wanted: the consumer's annotation. A table is given as the pandas, polars or pyarrow class it asks for, a
            file as ``Path`` or ``str``, a record as the record class, TypedDict or dict it names; anything else it
            says changes nothing.
        checkout: folder where files and folders are laid out for reading, shared between processes; without it
            they lie in a folder of this process that goes when it ends.

    Raises:
        BlobMissingError: a blob is not there.
        BlobCorruptError: a blob's bytes are not those of its digest. A wrong value is never returned.
        NotFoundError: a record's class is gone.
    """
    if isinstance(artifact, Leaf):
        try:
            return named(artifact.codec).decode(Stored(artifact, datastore, checkout), wanted)
        except BlobError as error:
            # Whole, but not what its codec reads (such as a manifest of another version): as good as lost.
            error.blob = error.blob or str(artifact.digest)
            raise
    if artifact.kind == "record":
        return _record(artifact, datastore, wanted, checkout)
    if artifact.kind == "dict":
        dict_hints = _typed_dict_hints(wanted)
        value_wanted = asked.of_value(wanted)
        return {
            key: load(item, datastore, dict_hints.get(key, value_wanted), checkout=checkout)
            for key, item in zip(artifact.keys, artifact.items, strict=True)
        }
    items = [
        load(item, datastore, asked.of_item(wanted, position), checkout=checkout)
        for position, item in enumerate(artifact.items)
    ]
    return tuple(items) if artifact.kind == "tuple" else items


def _record(artifact: Collection, datastore: Datastore, wanted: Any, checkout: Path | None) -> Any:
    chosen = _chosen(wanted)
    kind = class_for(artifact.type_name, chosen, artifact.keys)
    hints = field_hints(chosen if kind is dict and is_typed_dict(chosen) else kind)
    values = [
        load(item, datastore, hints.get(str(key), Any), checkout=checkout)
        for key, item in zip(artifact.keys, artifact.items, strict=True)
    ]
    return build(kind, artifact.keys, values)


def _typed_dict_hints(wanted: Any) -> dict[Any, Any]:
    chosen = _chosen(wanted)
    return field_hints(chosen) if is_typed_dict(chosen) else {}


def _chosen(wanted: Any) -> Any:
    """Return the one class that an annotation names besides None; nothing when it names several."""
    kinds = [kind for _, _, kind in asked.names(wanted) if kind is not type(None)]
    return kinds[0] if len(kinds) == 1 else None
