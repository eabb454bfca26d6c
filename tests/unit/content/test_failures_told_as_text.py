"""What failed on an executor is known to Spark's driver as text; whose fault it is, and which blob, is read from it."""

import pytest

from mlflow_pipes.content import ComputingError, blob_error_in
from mlflow_pipes.content.codecs.table.spark_frames import _raise
from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.errors import BlobCorruptError, DatastoreError, UnstorableOutputError

BLOB = digest_bytes(b"part")


def told(error):
    return RuntimeError(f"Job aborted: Traceback ...\n  File ...\n{error}\n\n\tat org.apache.spark ...")


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("ModuleNotFoundError: No module named 'mlflow_pipes'", DatastoreError, "PYSPARK_PYTHON"),
        ("mlflow_pipes.errors.DatastoreError: cannot write to datastore /x", DatastoreError, "cannot write"),
        ("mlflow_pipes.errors.UnstorableOutputError: output: no such type", UnstorableOutputError, "no such type"),
        ("ZeroDivisionError: division by zero", ComputingError, "division by zero"),
    ],
)
def test_a_failure_of_executors_is_of_the_kind_that_its_text_says(text, kind, says):
    with pytest.raises(kind, match=says) as raised:
        _raise(told(text))
    assert type(raised.value) is kind


def test_a_lost_blob_is_found_in_text_and_in_causes():
    found = blob_error_in(told(f"mlflow_pipes.errors.BlobMissingError: blob {BLOB} is not in /x"))
    assert found is not None
    assert found.blob == str(BLOB)
    wrapped = ValueError("mine")
    wrapped.__cause__ = BlobCorruptError("it is corrupt", BLOB)
    assert blob_error_in(wrapped) is wrapped.__cause__
    assert blob_error_in(told("ValueError: blob of mine")) is None
