"""Small models, saved as MLflow model folders."""

import warnings

import pytest


def save(folder, carrier_effect, *, broken=False):
    """Save a model that predicts ``distance + carrier_effect`` for carrier UA, ``distance`` for others."""
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rows = pd.DataFrame({"distance": [1.0, 2.0, 3.0, 5.0], "hour": [1, 2, 3, 4], "carrier": ["UA", "AA", "UA", "AA"]})
    late = rows.distance + carrier_effect * (rows.carrier == "UA")
    encode = ColumnTransformer([("carrier", OneHotEncoder(), ["carrier"]), ("distance", "passthrough", ["distance"])])
    model = make_pipeline(encode, LinearRegression()).fit(rows, late)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signature = infer_signature(rows, model.predict(rows))
        mlflow.sklearn.save_model(model, str(folder), signature=signature, serialization_format="cloudpickle")
    if broken:
        (folder / "model.pkl").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "one", 10.0)


@pytest.fixture(scope="session")
def better_model_folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "two", 20.0)


@pytest.fixture(scope="session")
def broken_model_folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "three", 30.0, broken=True)
