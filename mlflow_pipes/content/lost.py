"""Blobs that turn out to be lost while a step computes: what is read in parts is read when the step asks for it."""

from __future__ import annotations

import re

from mlflow_pipes.errors import BlobCorruptError, BlobError

# Spark's drivers know what failed on an executor as text only.
_TOLD = re.compile(r"mlflow_pipes\.errors\.Blob(?:Missing|Corrupt)Error: ([^\n]*?([0-9a-f]{64}:[0-9]+)[^\n]*)")


def blob_error_in(error: BaseException) -> BlobError | None:
    """Return the lost blob that an exception is about, or was raised because of; None for one of another kind."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, BlobError):
            return one
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    told = _TOLD.search(str(error))
    return None if told is None else BlobCorruptError(told[1], told[2])
