"""Tables in parts: what a table is, and where its rows lie, are told apart.

A table that workers wrote part by part is two small records. The *statement* tells what it is: its logical schema, the
number of its rows and the sum of their hashes; it is the leaf's root, so equal rows give equal identities however they
are divided. The *layout* names the blobs of the parts, each an Arrow stream, in order; it is a blob that the leaf names
besides (``Leaf.layout``), and no part of the identity.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import NamedTuple

from mlflow_pipes.content.codecs.table.bag import Bag
from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import BlobCorruptError

STATEMENT = "pipes.rows/1"
LAYOUT = "pipes.parts/1"


class Written(NamedTuple):
    """What whoever wrote a part tells of it; the rows stay in the datastore.

    Attributes:
        blob: digest of the part's Arrow stream, as text.
        rows: number of its rows.
        total: sum of their hashes, 32 bytes, little endian.
        schema: hash of its logical schema.
        columns: names and types, for people.
        example: an Arrow stream of the same columns without rows.
    """

    blob: str
    rows: int
    total: bytes
    schema: str
    columns: tuple[tuple[str, str], ...]
    example: bytes


class Part(NamedTuple):
    """A part of a table: a blob, and which of the table's rows it holds."""

    blob: Digest
    first: int
    rows: int


class Layout(NamedTuple):
    """Where a table's rows lie.

    Attributes:
        parts: in order; none without rows.
        example: as of ``Written``.
        divisions: values of the index between which parts lie, as the blob of a series; empty where not known.
    """

    parts: tuple[Part, ...]
    example: bytes
    divisions: bytes = b""


def statement_of(written: Sequence[Written]) -> bytes:
    """Return the record of what a table is, of parts that have one schema; always short."""
    whole = Bag()
    for part in written:
        whole += Bag(part.rows, int.from_bytes(part.total, "little"))
    rows = {"rows": whole.rows, "schema": written[0].schema, "sum": f"{whole.total:064x}"}
    return json.dumps({STATEMENT: rows}, separators=(",", ":"), sort_keys=True).encode()


def differing(written: Sequence[Written]) -> str:
    """Return how the columns of two parts differ, for people; empty where all have one schema."""
    first = written[0]
    for number, part in enumerate(written):
        if part.schema != first.schema:
            pairs = [(a, b) for a, b in zip(first.columns, part.columns, strict=False) if a != b]
            if not pairs or len(first.columns) != len(part.columns):
                return f"part {number} has other columns than part 0, or an index or categories of another kind"
            (name, one), (other, two) = pairs[0]
            found = f"column {other!r} as {two}" if name == other else f"a column {other!r} in the place of {name!r}"
            return f"part {number} has {found}, and part 0 has {one}"
    return ""


def encode_layout(written: Sequence[Written], divisions: bytes = b"") -> bytes:
    """Return the blob that names the blobs of parts."""
    plain = {
        "parts": [[part.blob, part.rows] for part in written if part.rows],
        "example": b64encode(written[0].example).decode("ascii"),
        "divisions": b64encode(divisions).decode("ascii"),
    }
    return json.dumps({LAYOUT: plain}, separators=(",", ":"), sort_keys=True).encode()


def decode_layout(blob: memoryview) -> Layout:
    """Read what :func:`encode_layout` wrote.

    Raises:
        BlobCorruptError: it is no layout of this format.
    """
    try:
        plain = json.loads(bytes(blob))[LAYOUT]
        parts, first = [], 0
        for text, rows in plain["parts"]:
            parts.append(Part(Digest.parse(text), first, rows))
            first += rows
        return Layout(tuple(parts), b64decode(plain["example"]), b64decode(plain["divisions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BlobCorruptError(f"the layout of a table in parts cannot be read: {error}") from error
