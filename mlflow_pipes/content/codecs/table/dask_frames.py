"""Dask's data frames: partitions are written and read by whoever computes them, a worker of a cluster or a thread."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content.codec import Declined, Storing
from mlflow_pipes.content.codecs.on_dask import Reached, computed, reader, writer
from mlflow_pipes.content.codecs.table import frames
from mlflow_pipes.content.codecs.table.layout import Layout, Written
from mlflow_pipes.content.codecs.table.part_reading import as_pandas
from mlflow_pipes.content.codecs.table.part_writing import is_numbering, write_frame
from mlflow_pipes.digests import Digest

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore

_SLICE_BYTES = 64 * 1024 * 1024


def write(frame: Any, storing: Storing) -> tuple[tuple[Written, ...], bytes]:
    """Have a Dask frame computed and its partitions stored; return what is told of them, and the divisions.

    Raises:
        UnstorableOutputError: a column's categories are not known, or hold what Arrow has not.
        ComputingError: computing it failed.
    """
    from dask.delayed import delayed

    unknown = [str(name) for name, dtype in frame.dtypes.items() if _has_unknown_categories(dtype)]
    if unknown:
        storing.refuse(
            f"the categories of column {unknown[0]!r} are not known before it is computed; return "
            f"frame.categorize({unknown}), or make it text with .astype(str)"
        )
    call, reached = delayed(writer(write_part), pure=False), Reached(storing.datastore)
    calls = [call(part, reached, storing.where, number) for number, part in enumerate(frame.to_delayed())]
    return computed(calls), _encoded_divisions(frame)


def write_part(frame: Any, reached: Any, where: str, number: int) -> Written:
    """Store one partition."""
    return write_frame(frame, reached(), f"{where}, partition {number}")


def read(layout: Layout, datastore: Datastore) -> Any:
    """Return a Dask frame of a table in parts: a partition a part, each read when it is computed."""
    import dask.dataframe as dd

    meta = as_pandas(memoryview(layout.example))
    if not layout.parts:
        return of_frame(meta)
    divisions: Any = None
    if is_numbering(meta.index):
        divisions = (*(part.first for part in layout.parts), layout.parts[-1].first + layout.parts[-1].rows - 1)
    elif layout.divisions:
        divisions = tuple(frames.decode(memoryview(layout.divisions)))
    sources = [(str(part.blob), part.first) for part in layout.parts]
    options = {"meta": meta, "divisions": divisions, "label": "read-part"}
    return dd.from_map(reader(read_part), sources, reached=Reached(datastore), **options)


def read_part(source: tuple[str, int], *, reached: Any, columns: Sequence[Any] | None = None) -> Any:
    """Return one part as a pandas frame, its rows numbered as those of the whole table."""
    import pandas as pd

    blob, first = source
    frame = as_pandas(reached().read(Digest.parse(blob)), columns)
    if is_numbering(frame.index):
        frame.index = pd.RangeIndex(first, first + len(frame))
    return frame


def of_frame(frame: Any) -> Any:
    """Return a Dask frame of one partition, of a pandas frame that is here."""
    import dask.dataframe as dd

    return dd.from_pandas(frame, npartitions=1, sort=False)


def of_blob(blob: Digest, rows: int, datastore: Datastore) -> Any:
    """Return a Dask frame of a table that is stored whole: slices of it, each read when it is computed."""
    import dask.dataframe as dd

    slices = min(max(rows, 1), 1 + blob.size_bytes // _SLICE_BYTES)
    bounds = [rows * number // slices for number in range(slices + 1)]
    sources = [(str(blob), start, end) for start, end in pairwise(bounds)]
    reached = Reached(datastore)
    meta = read_slice((str(blob), 0, 0), reached=reached)
    return dd.from_map(reader(read_slice), sources, reached=reached, meta=meta, label="read-slice")


def read_slice(source: tuple[str, int, int], *, reached: Any, columns: Sequence[Any] | None = None) -> Any:
    """Return some rows of a stored table; numbers in the blob are used where they lie."""
    blob, start, end = source
    return as_pandas(reached().read(Digest.parse(blob)), columns).iloc[start:end]


def _has_unknown_categories(dtype: Any) -> bool:
    from dask.dataframe.utils import UNKNOWN_CATEGORIES

    return getattr(dtype, "categories", None) is not None and UNKNOWN_CATEGORIES in dtype.categories


def _encoded_divisions(frame: Any) -> bytes:
    """Return the divisions as the blob of a series; nothing where they are not known, or only number rows."""
    if not frame.known_divisions or is_numbering(frame._meta.index):  # noqa: SLF001 - Dask's own word for it
        return b""
    import pandas as pd

    try:
        return b"".join(bytes(piece) for piece in frames.encode(pd.Series(list(frame.divisions))))
    except Declined:
        return b""
