"""The text files of an MLflow model folder, as functions of the model alone: no time, no random id, no inference.

``mlflow.sklearn.save_model`` takes 1.7 s, most of it to find requirements in a subprocess, after an import of 1-2 s;
this takes a millisecond. That ``mlflow.pyfunc`` and ``mlflow.sklearn`` load the folder is proved by tests.
"""

from __future__ import annotations

import json
import platform
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_pipes.digests import Digest

LONG_AGO = "1970-01-01 00:00:00.000000"
PICKLE = "model.pkl"
EXAMPLE_TABLE = "input_example.arrow"


@lru_cache(maxsize=32)
def requirements(*distributions: str) -> tuple[str, ...]:
    """Return ``name==version`` of those that are installed; for MLflow also its slim build."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in distributions:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            if name == "mlflow":
                found.extend(requirements("mlflow-skinny"))
    return tuple(found)


def sklearn_files(
    pickled: Digest, signature: Mapping[str, str | None] | None, example: Any, *, with_pandas: bool
) -> dict[str, bytes]:
    """Return the files of the folder besides the pickle, by name."""
    needs = requirements(
        "mlflow", "cloudpickle", "numpy", *(("pandas",) if with_pandas else ()), "scikit-learn", "scipy"
    )
    python = platform.python_version()
    described: dict[str, Any] = {
        "flavors": {
            "python_function": {
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.sklearn",
                "model_path": PICKLE,
                "predict_fn": "predict",
                "python_version": python,
            },
            "sklearn": {
                "code": None,
                "pickled_model": PICKLE,
                "serialization_format": "cloudpickle",
                "sklearn_version": requirements("scikit-learn")[0].partition("==")[2],
            },
        },
        "mlflow_version": needs[0].partition("==")[2],
        "model_size_bytes": pickled.size_bytes,
        "model_uuid": pickled.hash[:32],
        "utc_time_created": LONG_AGO,
    }
    files = {
        "requirements.txt": "".join([f"{line}\n" for line in needs]).encode(),
        "conda.yaml": _yaml(
            {
                "name": "mlflow-env",
                "channels": ["conda-forge"],
                "dependencies": [f"python={python}", "pip", {"pip": list(needs)}],
            }
        ),
        "python_env.yaml": _yaml(
            {
                "python": python,
                "build_dependencies": ["pip", "setuptools", "wheel"],
                "dependencies": ["-r requirements.txt"],
            }
        ),
    }
    if signature is not None:
        described["signature"] = {"params": None, **signature}
    if example is not None:
        files |= example_files(example)
        described["saved_input_example_info"] = {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
        }
    files["MLmodel"] = _yaml(described)
    return files


def example_files(example: Any) -> dict[str, bytes]:
    """Return an example table in MLflow's two JSON forms, and as it is."""
    from mlflow_pipes.content.codecs.table import frames

    split = json.loads(example.to_json(orient="split", index=False, date_format="iso", double_precision=15))
    return {
        "input_example.json": json.dumps(split).encode(),
        "serving_input_example.json": json.dumps({"dataframe_split": split}, indent=2).encode(),
        EXAMPLE_TABLE: b"".join(frames.encode(example)),
    }


def without_moment(described: bytes, identity: str) -> bytes:
    """Return an ``MLmodel`` that MLflow wrote without what differs each time; its id becomes *identity*."""
    import yaml  # type: ignore[import-untyped] # PyYAML comes with mlflow-skinny

    plain = yaml.safe_load(described)
    for key in ("run_id", "model_id", "artifact_path"):
        plain.pop(key, None)
    return _yaml({**plain, "model_uuid": identity[:32], "utc_time_created": LONG_AGO})


def read(described: memoryview) -> dict[str, Any]:
    """Return an ``MLmodel`` as plain data."""
    import yaml

    found: dict[str, Any] = yaml.safe_load(bytes(described))
    return found


def _yaml(plain: Any) -> bytes:
    import yaml

    text: str = yaml.safe_dump(plain, sort_keys=True, default_flow_style=False, width=120)
    return text.encode()
