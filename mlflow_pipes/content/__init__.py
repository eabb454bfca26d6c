"""Content: values <-> artifacts. Equal values have equal identities, whoever made them and wherever.

``store`` and ``load`` are inverse; ``select`` gives the artifact of a part; ``blobs_of`` what must be kept for it.
How each kind of value is stored is told in its codec, below ``codecs/``.
"""

from mlflow_pipes.content.codec import INLINE_LIMIT_BYTES, Codec, ComputingError, Declined, Encoded, Stored, Storing
from mlflow_pipes.content.describing import describe
from mlflow_pipes.content.loading import load
from mlflow_pipes.content.lost import blob_error_in
from mlflow_pipes.content.memo import FileMemo, FileState, MemoryFileMemo
from mlflow_pipes.content.model.signed import SignedModel
from mlflow_pipes.content.parts import blobs_of, is_whole, items_of, leaves_of, select
from mlflow_pipes.content.storing import store

__all__ = [
    "INLINE_LIMIT_BYTES",
    "Codec",
    "ComputingError",
    "Declined",
    "Encoded",
    "FileMemo",
    "FileState",
    "MemoryFileMemo",
    "SignedModel",
    "Stored",
    "Storing",
    "blob_error_in",
    "blobs_of",
    "describe",
    "is_whole",
    "items_of",
    "leaves_of",
    "load",
    "select",
    "store",
]
