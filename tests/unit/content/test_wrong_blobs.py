import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlflow_pipes.content import load, select, store
from mlflow_pipes.errors import BlobCorruptError, BlobMissingError
from mlflow_pipes.stores.local import LocalDatastore

VALUES = {
    "text": "x" * 5000,
    "bytes": b"x" * 100_000,
    "plain": list(range(5000)),
    "table": pd.DataFrame({"a": range(50_000)}),
    "array": np.arange(50_000),
    "pickle": {(1, 2): np.arange(50_000)},
    "record": [np.arange(5000), "y"],
}


def leaves(artifact):
    return [leaf for item in artifact.items for leaf in leaves(item)] if hasattr(artifact, "items") else [artifact]


@pytest.mark.parametrize("name", VALUES)
def test_a_missing_or_changed_blob_never_gives_a_value(name, tmp_path):
    datastore = LocalDatastore(tmp_path)
    artifact = store(VALUES[name], datastore)
    load(artifact, datastore)
    blob = datastore.path(leaves(artifact)[0].digest)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    with pytest.raises(BlobCorruptError, match=leaves(artifact)[0].digest.hash):
        load(artifact, datastore)
    blob.unlink()
    with pytest.raises(BlobMissingError, match=leaves(artifact)[0].digest.hash):
        load(artifact, datastore)


def test_wrong_inline_bytes_never_give_a_value(tmp_path):
    datastore = LocalDatastore(tmp_path)
    (tmp_path / "f").write_text("few")
    for value in (8, "abc", [1], np.arange(3), tmp_path / "f", pd.Series([1])):
        artifact = store(value, datastore)
        wrong = dataclasses.replace(artifact, inline=artifact.inline[:-1] + b"?")
        with pytest.raises(BlobCorruptError, match="inline"):
            load(wrong, datastore)
        with pytest.raises(BlobCorruptError, match="inline"):
            load(wrong, datastore, Path | None)
    with pytest.raises(BlobCorruptError):
        select(dataclasses.replace(store([1, 2], datastore), inline=b"[1,3]"), (0,), datastore)


def test_a_pickle_of_another_layout_is_corrupt(tmp_path):
    datastore = LocalDatastore(tmp_path)
    artifact = store({(1, 2): np.arange(50_000)}, datastore)
    other = dataclasses.replace(artifact, digest=datastore.put([b"not a pickle" * 1000]))
    with pytest.raises(BlobCorruptError, match="is not a pickle as this version writes them"):
        load(other, datastore)
