"""NumPy arrays and scalars as ``.npy``."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content import wanted as asked
from mlflow_pipes.content.codec import Declined, Encoded, Stored, Storing, by_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_pipes.model.artifact import Leaf

_BLOCK_BYTES = 16 * 1024 * 1024


class ArrayCodec:
    """Codec ``array``: canonical ``.npy``, in C order and little endian.

    The form is ``ndarray`` or ``scalar``, dtype and shape. An array read back is a view of the blob's privately mapped
    memory, so it may be written to.
    """

    name = "array"

    def accepts(self, value: Any) -> bool:
        """Whether it is an array or scalar of NumPy's own classes."""
        np = sys.modules["numpy"]
        return type(value) in {np.ndarray, np.memmap} or (
            isinstance(value, np.generic) and type(value) is value.dtype.type
        )

    def encode(self, value: Any, storing: Storing) -> Encoded:  # noqa: ARG002 - the codec's interface
        """Return the ``.npy`` bytes; arrays of objects are left to pickle."""
        import numpy as np

        array = np.asarray(value)
        if array.dtype.hasobject or array.dtype.metadata:
            raise Declined("objects")
        header = io.BytesIO()
        dtype = array.dtype.newbyteorder("<")
        description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
        try:
            np.lib.format.write_array_header_1_0(header, description)
        except ValueError as error:  # field names beyond Latin-1, or a header beyond 64 KiB
            raise Declined(str(error)) from error
        shape = "x".join(map(str, array.shape))
        form = "scalar" if isinstance(value, np.generic) else "ndarray"
        return Encoded(_pieces(header.getvalue(), array, dtype), f"{form} {dtype.name} {shape}".rstrip())

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return the array or scalar; an array of Dask's where that is wanted, read when it is computed."""
        import numpy as np

        if stored.leaf.form.startswith("ndarray") and _wants_dask(wanted):
            from mlflow_pipes.content.codecs import chunked

            return chunked.sliced(stored.leaf, stored.datastore)

        view = stored.view()
        head = io.BytesIO(view[:65_600])
        np.lib.format.read_magic(head)
        shape, _, dtype = np.lib.format.read_array_header_1_0(head)
        count = int(np.prod(shape, dtype=np.int64))
        if not dtype.itemsize or not count:
            array = np.zeros(shape, dtype)
        else:
            array = np.frombuffer(view, dtype, count, head.tell()).reshape(shape)
        if not array.flags.writeable:
            array = array.copy()
        return array[()] if stored.leaf.form.startswith("scalar") else array

    def describe(self, leaf: Leaf) -> str:
        """Return the shape and dtype."""
        kind, dtype, *shape = leaf.form.split(" ")
        sizes = by_size(shape[0]) + " " if shape else ""
        return f"{'array' if kind == 'ndarray' else 'scalar'} {sizes}{dtype}"


CODEC = ArrayCodec()


def _wants_dask(wanted: Any) -> bool:
    kinds = [(package, name) for package, name, _ in asked.names(wanted)]
    return ("dask", "Array") in kinds and ("numpy", "ndarray") not in kinds


def _pieces(header: bytes, array: Any, dtype: Any) -> Iterator[bytes | memoryview]:
    """Yield the header and the items in C order; an array that lies otherwise is copied block by block."""
    import numpy as np

    yield header
    if not array.nbytes:
        return
    if array.flags.c_contiguous and array.dtype == dtype:
        yield _bytes_of(array)
        return
    if array.ndim < 2:
        yield _bytes_of(np.ascontiguousarray(array, dtype))
        return
    rows = max(1, _BLOCK_BYTES // max(1, array.nbytes // len(array)))
    for start in range(0, len(array), rows):
        yield _bytes_of(np.ascontiguousarray(array[start : start + rows], dtype))


def _bytes_of(array: Any) -> memoryview:
    """Return the memory of a contiguous array, whatever its dtype."""
    return memoryview(array.reshape(-1).view(sys.modules["numpy"].uint8))
