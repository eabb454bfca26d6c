"""matplotlib figures as the picture they show."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content import checkout
from mlflow_pipes.content import wanted as asked
from mlflow_pipes.content.codec import Encoded, Stored, Storing
from mlflow_pipes.content.codecs.files import as_wanted

if TYPE_CHECKING:
    from mlflow_pipes.model.artifact import Leaf

_NAME = "figure.png"


class FigureCodec:
    """Codec ``figure``: a PNG without time and versions.

    A figure comes back as its picture: the PNG's bytes, or the path of a file ``figure.png`` where a path is wanted.
    """

    name = "figure"

    def accepts(self, value: Any) -> bool:
        """Whether it is a matplotlib figure."""
        return any(
            parent.__module__ == "matplotlib.figure" and parent.__name__ == "Figure" for parent in type(value).__mro__
        )

    def encode(self, value: Any, storing: Storing) -> Encoded:  # noqa: ARG002 - the codec's interface
        """Return the PNG."""
        target = io.BytesIO()
        value.savefig(target, format="png", metadata={"Software": None})
        return Encoded((target.getbuffer(),), _NAME)

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return the PNG's bytes, or its path."""
        kinds = asked.names(wanted)
        if any(package == "matplotlib" for package, _, _ in kinds):
            raise TypeError(
                "a figure is stored as its picture and cannot be drawn on again; annotate the parameter as bytes (PNG) "
                "or pathlib.Path, or pass on the data that it shows"
            )
        if not any(issubclass(kind, Path | str) for _, _, kind in kinds):
            return bytes(stored.view())
        leaf = stored.leaf
        inline = bytes(stored.view()) if leaf.inline is not None else None
        path = checkout.lay_out_file(leaf.identity, _NAME, leaf.digest, inline, stored.datastore, stored.checkout)
        return as_wanted(path, wanted)

    def describe(self, leaf: Leaf) -> str:
        """Return the size."""
        return f"figure, {leaf.digest.size_bytes:,} bytes"


CODEC = FigureCodec()
