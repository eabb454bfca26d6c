"""Everything else, by cloudpickle with out-of-band buffers.

One blob: a header with the sizes, the pickle, then each buffer at a multiple of 64 bytes. Buffers (NumPy data, Arrow
data) are written from where they lie and, read back, are views of the blob's privately mapped memory.
"""

from __future__ import annotations

import io
import pickle
import struct
from types import FunctionType
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content.codec import Encoded, Stored, Storing
from mlflow_pipes.content.naming import find, main_module_name, type_name
from mlflow_pipes.errors import BlobCorruptError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_pipes.model.artifact import Leaf

_MAGIC = b"pipes.pickle/1\n\n"
_ALIGN = 64

_REMEDIES = {
    "generator": "return list(...) of it",
    "map": "return list(...) of it",
    "filter": "return list(...) of it",
    "zip": "return list(...) of it",
    "module": "return the value you need from it",
    "coroutine": "await it, or run it with asyncio.run(...)",
    "TextIOWrapper": "close the file and return its pathlib.Path",
    "BufferedReader": "close the file and return its pathlib.Path",
    "BufferedWriter": "close the file and return its pathlib.Path",
    "BufferedRandom": "close the file and return its pathlib.Path",
    "FileIO": "close the file and return its pathlib.Path",
    "Connection": "return what you read from it, and open the connection in the step that uses it",
    "Engine": "return what you read from it, and make the engine in the step that uses it",
    "Session": "return what you read from it, and open the session in the step that uses it",
    "socket": "return what you read from it, and open the socket in the step that uses it",
    "lock": "make the lock in the step that uses it",
    "RLock": "make the lock in the step that uses it",
}
_REFUSED = (io.TextIOWrapper, io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom)


class PickleCodec:
    """Codec ``pickle``. The form is the class's name."""

    name = "pickle"

    def accepts(self, value: Any) -> bool:  # noqa: ARG002 - the codec's interface
        """Whether it is worth trying: always."""
        return True

    def encode(self, value: Any, storing: Storing) -> Encoded:
        """Return the framed pickle; refuses what cannot be pickled."""
        kind = type(value).__name__
        if kind in {"generator", "map", "filter", "zip"}:
            storing.refuse(f"a {kind} can be read once only and cannot be stored; {_REMEDIES[kind]}")
        buffers: list[pickle.PickleBuffer] = []
        target = io.BytesIO()
        try:
            _pickler(target, buffers).dump(value)
            views = [buffer.raw() for buffer in buffers]
        except RecursionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a class's __reduce__ raises says that it cannot be stored
            remedy = _REMEDIES.get(kind) or next(
                (_REMEDIES[word] for word in _REMEDIES if f"'{word}'" in str(error)), None
            )
            storing.refuse(
                f"a {type(value).__module__}.{kind} cannot be stored: {error}; "
                + (
                    remedy
                    or "return plain data, a table, an array or a model instead, or write a file and return its Path"
                )
            )
        return Encoded(_frames(target.getbuffer(), views), kind)

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return the value; tables are converted as wanted."""
        view = stored.view()
        if view.nbytes < len(_MAGIC) + 8 or bytes(view[: len(_MAGIC)]) != _MAGIC:
            raise BlobCorruptError(
                f"blob {stored.leaf.digest} is not a pickle as this version writes them", stored.leaf.digest
            )
        if view.readonly:
            view = memoryview(bytearray(view))
        position = len(_MAGIC)
        (count,) = struct.unpack_from("<Q", view, position)
        sizes = struct.unpack_from(f"<{count}Q", view, position + 8)
        position += 8 + 8 * count
        parts = []
        for size in sizes:
            position += -position % _ALIGN
            parts.append(view[position : position + size])
            position += size
        value = _Unpickler(io.BytesIO(parts[0]), buffers=parts[1:]).load()
        from mlflow_pipes.content.codecs.table import converted

        return converted(value, wanted)

    def describe(self, leaf: Leaf) -> str:
        """Return the class and the size."""
        return f"{leaf.form}, {leaf.digest.size_bytes:,} bytes"


CODEC = PickleCodec()


def pickled(value: Any, by_name: tuple[type, ...] = ()) -> bytes:
    """Return one pickle of *value*; what ``__main__`` defines stands in it as other processes know it.

    Args:
        value: what to pickle.
        by_name: classes of further objects that are found by their names, besides classes and functions.
    """
    target = io.BytesIO()
    _pickler(target, None, by_name).dump(value)
    return target.getvalue()


def unpickled(data: bytes) -> Any:
    """Return what :func:`pickled` was given. Runs code that the pickle names."""
    return _Unpickler(io.BytesIO(data)).load()


def _frames(main: memoryview, buffers: list[memoryview]) -> Iterator[bytes | memoryview]:
    parts = [main, *buffers]
    header = _MAGIC + struct.pack(f"<Q{len(parts)}Q", len(parts), *(part.nbytes for part in parts))
    yield header
    position = len(header)
    for part in parts:
        yield bytes(-position % _ALIGN)
        position += -position % _ALIGN + part.nbytes
        yield part


def _pickler(
    target: io.BytesIO, buffers: list[pickle.PickleBuffer] | None, by_name: tuple[type, ...] = ()
) -> pickle.Pickler:
    import cloudpickle

    named = (type, FunctionType, *by_name)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle is not typed
        """Refuses open files, and names what ``__main__`` defines as other processes know it."""

        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, _REFUSED):
                raise pickle.PicklingError(f"cannot pickle '{type(thing).__name__}' object, an open file")
            if isinstance(thing, named) and thing.__module__ in {"__main__", "__mp_main__"}:
                name = type_name(thing)
                if main_module_name() != "__main__" and "<" not in name:
                    try:
                        if find(name) is thing:
                            return find, (name,)
                    except NotFoundError:
                        pass
            return super().reducer_override(thing)

    return Pickler(target, protocol=5, buffer_callback=None if buffers is None else buffers.append)


class _Unpickler(pickle.Unpickler):
    """Finds what a worker imported under the natural name of this process's ``__main__`` in ``__main__`` itself."""

    def find_class(self, module: str, name: str) -> Any:
        if module == main_module_name():
            return find(f"{module}:{name}")
        return super().find_class(module, name)
