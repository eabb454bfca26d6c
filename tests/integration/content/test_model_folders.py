import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlflow_pipes.content import SignedModel, blobs_of, describe, load, store
from mlflow_pipes.errors import UnstorableOutputError
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.stores.memory import MemoryDatastore

pytestmark = pytest.mark.integration


def rows():
    chance = np.random.default_rng(0)
    frame = pd.DataFrame(chance.random((200, 3)), columns=list("abc"))
    frame["n"] = np.arange(200)
    frame["s"] = chance.choice(["x", "y"], 200)
    frame.loc[3, "b"] = np.nan
    return frame


def regression():
    frame = rows()
    encode = make_column_transformer((OneHotEncoder(), ["s"]), remainder="passthrough")
    return make_pipeline(encode, HistGradientBoostingRegressor(max_iter=5, random_state=0)).fit(
        frame, frame.a + frame.n
    )


def classification():
    frame = rows()[["a", "c", "n"]]
    return RandomForestClassifier(5, random_state=0).fit(frame, frame.a > 0.5)


@pytest.fixture
def datastore(tmp_path):
    return LocalDatastore(tmp_path / "store")


def test_a_model_comes_back_and_predicts_the_same(datastore):
    for model, frame in ((regression(), rows()), (classification(), rows()[["a", "c", "n"]])):
        artifact = store(model, datastore)
        assert artifact.codec == "model"
        assert describe(artifact) == f"model {type(model).__name__}"
        assert datastore.has(blobs_of(artifact, datastore)) == blobs_of(artifact, datastore)
        for wanted in (Any, type(model), BaseEstimator):
            back = load(artifact, datastore, wanted)
            assert type(back) is type(model)
            np.testing.assert_array_equal(back.predict(frame), model.predict(frame))
        assert store(load(artifact, datastore), datastore) == artifact
        assert store(model, datastore) == artifact


def test_mlflow_loads_the_folder(datastore, tmp_path):
    import mlflow

    for model, frame in ((regression(), rows()), (classification(), rows()[["a", "c", "n"]])):
        for value in (model, SignedModel(model, frame)):
            folder = load(store(value, datastore), datastore, Path, checkout=tmp_path / "checkout")
            assert folder.name == "model"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = model.predict(frame)
                np.testing.assert_array_equal(mlflow.pyfunc.load_model(str(folder)).predict(frame), expected)
                np.testing.assert_array_equal(mlflow.sklearn.load_model(str(folder)).predict(frame), expected)


def test_the_signature_is_what_mlflow_infers(datastore, tmp_path):
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model, infer_signature
    from mlflow.pyfunc import load_model

    frame, model = rows(), regression()
    frame["i32"], frame["f32"] = np.int32(1), np.float32(2)
    frame["flag"], frame["day"] = True, pd.Timestamp("2020-01-01")
    numbers = np.random.default_rng(0).random((20, 3))
    for one, example in (
        (model, rows()),
        (AcceptsAll(), frame),
        (AcceptsAll(), frame.assign(kind=pd.Categorical(["q"] * 200))),
        (LinearRegression().fit(numbers, numbers[:, 0]), numbers),
    ):
        folder = load(store(SignedModel(one, example), datastore), datastore, Path, checkout=tmp_path / "checkout")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert Model.load(str(folder)).signature == infer_signature(example, one.predict(example))
    folder = load(store(SignedModel(model, rows()), datastore), datastore, Path, checkout=tmp_path / "checkout")
    pd.testing.assert_frame_equal(Model.load(str(folder)).load_input_example(str(folder)), rows().head(5))
    with pytest.raises(MlflowException, match="missing inputs"):
        load_model(str(folder)).predict(rows().drop(columns="a"))


class AcceptsAll(BaseEstimator):
    def predict(self, frame):
        return np.zeros(len(frame))


def test_a_signed_model_comes_back_signed_unless_the_bare_model_is_wanted(datastore):
    model = regression()
    artifact = store(SignedModel(model, rows()), datastore)
    back = load(artifact, datastore)
    assert type(back) is SignedModel
    np.testing.assert_array_equal(back.predict(rows()), model.predict(rows()))
    assert back.steps[1][0] == "histgradientboostingregressor"  # the model's own attributes
    assert '"name": "b", "required": false' in back.signature["inputs"]
    pd.testing.assert_frame_equal(back.example, rows().head(5))
    assert store(back, datastore) == artifact
    assert type(load(artifact, datastore, Pipeline)) is Pipeline
    assert type(load(artifact, datastore, SignedModel | None)) is SignedModel
    assert type(load(store(model, datastore), datastore, SignedModel)) is SignedModel
    assert store(model, datastore).identity != artifact.identity


def test_what_makes_no_signed_model_is_refused_with_a_remedy(datastore):
    with pytest.raises(UnstorableOutputError, match="needs an example"):
        store(SignedModel(regression()), datastore)
    with pytest.raises(UnstorableOutputError, match="predicting the example failed: NotFittedError"):
        store(SignedModel(LinearRegression(), rows()[["a"]]), datastore)
    with pytest.raises(UnstorableOutputError, match=r"not a builtins\.str; return the model itself"):
        store(SignedModel("a model", rows()), datastore)
    broken = LinearRegression()
    broken.callback = (x for x in ())
    with pytest.raises(
        UnstorableOutputError, match=r"output\['m'\]: the LinearRegression cannot be stored: cannot pickle 'generator'"
    ):
        store({"m": broken}, datastore)


def test_two_processes_that_train_the_same_give_the_same_identity(tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_model_folders as t
from mlflow_pipes.content import store
from mlflow_pipes.stores.memory import MemoryDatastore
m = MemoryDatastore()
signed = t.SignedModel(t.classification(), t.rows()[["a", "c", "n"]])
print(store(t.regression(), m).identity, store(signed, m).identity)
assert "mlflow" not in sys.modules
"""
    seen = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_other_flavours_are_written_by_mlflow(datastore, tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    frame = rows()[["a", "c", "n"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(frame, frame.a)
        for value in (model, SignedModel(model, frame), model.booster_):
            artifact = store(value, datastore)
            assert artifact.form.startswith("lightgbm ")
            assert store(value, datastore) == artifact
            back = load(artifact, datastore, checkout=tmp_path / "checkout")
            assert type(back) is type(value)
            np.testing.assert_allclose(back.predict(frame), model.predict(frame))


def test_a_model_in_a_store_of_memory_can_be_loaded_too():
    datastore = MemoryDatastore()
    frame = rows()[["a", "c", "n"]]
    back = load(store(classification(), datastore), datastore)
    np.testing.assert_array_equal(back.predict(frame), classification().predict(frame))
