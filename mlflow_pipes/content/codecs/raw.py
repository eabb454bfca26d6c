"""Text and bytes as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_pipes.content.codec import Encoded, Stored, Storing
from mlflow_pipes.wording import clipped

if TYPE_CHECKING:
    from mlflow_pipes.model.artifact import Leaf


class TextCodec:
    """Codec ``text``: a string as UTF-8 (lone surrogates pass)."""

    name = "text"

    def accepts(self, value: Any) -> bool:
        """Whether it is a string, of no subclass."""
        return type(value) is str

    def encode(self, value: str, storing: Storing | None = None) -> Encoded:  # noqa: ARG002 - the codec's interface
        """Return the text's bytes."""
        return Encoded(value.encode("utf-8", "surrogatepass"))

    def decode(self, stored: Stored, wanted: Any = Any) -> str:  # noqa: ARG002 - the codec's interface
        """Return the text."""
        return str(stored.view(), "utf-8", "surrogatepass")

    def describe(self, leaf: Leaf) -> str:
        """Return the text where it is short, else its beginning or size."""
        if leaf.inline is None:
            return f"text, {leaf.digest.size_bytes:,} bytes"
        text = leaf.inline.decode("utf-8", "surrogatepass")
        return repr(clipped(text, 60))


class BytesCodec:
    """Codec ``bytes``: bytes or bytearray as they are."""

    name = "bytes"

    def accepts(self, value: Any) -> bool:
        """Whether it is bytes or a bytearray, of no subclass."""
        return type(value) in {bytes, bytearray}

    def encode(self, value: bytes | bytearray, storing: Storing | None = None) -> Encoded:  # noqa: ARG002
        """Return the bytes."""
        if type(value) is bytes:
            return Encoded(value)
        return Encoded((memoryview(value),), "bytearray")

    def decode(self, stored: Stored, wanted: Any = Any) -> bytes | bytearray:  # noqa: ARG002
        """Return the bytes."""
        return bytearray(stored.view()) if stored.leaf.form == "bytearray" else bytes(stored.view())

    def describe(self, leaf: Leaf) -> str:
        """Return the size."""
        return f"{leaf.digest.size_bytes:,} bytes"


TEXT = TextCodec()
BYTES = BytesCodec()
