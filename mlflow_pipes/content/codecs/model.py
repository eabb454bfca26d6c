"""Models as MLflow model folders, stored as trees."""

from __future__ import annotations

import importlib
import inspect
import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.content import checkout, tree
from mlflow_pipes.content import wanted as asked
from mlflow_pipes.content.codec import Declined, Encoded, Stored, Storing
from mlflow_pipes.content.codecs.files import as_wanted
from mlflow_pipes.content.model import folder
from mlflow_pipes.content.model.signed import SignedModel
from mlflow_pipes.content.reading import folder_manifest
from mlflow_pipes.digests import digest_record

if TYPE_CHECKING:
    from mlflow_pipes.digests import Digest
    from mlflow_pipes.model.artifact import Leaf
    from mlflow_pipes.ports import Datastore

# (top-level package, class in the MRO) -> MLflow flavour. Other models (PyTorch's, Keras') are pickled.
_FLAVORS = {
    ("xgboost", "Booster"): "xgboost",
    ("xgboost", "XGBModel"): "xgboost",
    ("lightgbm", "Booster"): "lightgbm",
    ("lightgbm", "LGBMModel"): "lightgbm",
    ("catboost", "CatBoost"): "catboost",
    ("sklearn", "BaseEstimator"): "sklearn",
}
_NAME = "model"
# A pickle is not the same before and after a round trip (what was equal becomes one object), but is from then on. So
# models up to this size are stored as they are after one; it also proves that they can be loaded.
_SETTLED_BYTES = 64 * 1024 * 1024


def flavor_of(model: Any) -> str | None:
    """Return the MLflow flavour of a model; None for what is none."""
    parents = [(parent.__module__.partition(".")[0], parent.__name__) for parent in type(model).__mro__]
    return next((flavor for key, flavor in _FLAVORS.items() if key in parents), None)


class ModelCodec:
    """Codec ``model``: an MLflow model folder. The form is flavour and class, and whether a signature came with it."""

    name = "model"

    def accepts(self, value: Any) -> bool:
        """Whether it is a ``SignedModel`` or a model of a flavour that we know."""
        return type(value) is SignedModel or flavor_of(value) is not None

    def encode(self, value: Any, storing: Storing) -> Encoded:
        """Return the folder's manifest; its files are in the datastore."""
        model = value.model if isinstance(value, SignedModel) else value
        flavor = flavor_of(model)
        if flavor is None:
            storing.refuse(
                f"a SignedModel holds a model of {', '.join(sorted(set(_FLAVORS.values())))}, not a "
                f"{type(model).__module__}.{type(model).__qualname__}; return the model itself, which is then pickled"
            )
        signature, example = _signature(value, storing) if isinstance(value, SignedModel) else (None, None)
        write = _write_sklearn if flavor == "sklearn" else _write_by_mlflow
        manifest = write(model, flavor, signature, example, storing)
        return Encoded(manifest, f"{flavor} {type(model).__qualname__}" + " signed" * isinstance(value, SignedModel))

    def decode(self, stored: Stored, wanted: Any) -> Any:
        """Return the model; with its signature where it came with one; its folder where a path is wanted."""
        kinds = [kind for _, _, kind in asked.names(wanted)]
        leaf, root = stored.leaf, stored.view()
        flavor, signed = leaf.form.partition(" ")[0], leaf.form.endswith(" signed")
        if any(issubclass(kind, Path | str) for kind in kinds) or flavor != "sklearn":
            path = checkout.lay_out_tree(leaf.identity, _NAME, root, stored.datastore, stored.checkout)
            if any(issubclass(kind, Path | str) for kind in kinds):
                return as_wanted(path, wanted)
            model = importlib.import_module(f"mlflow.{flavor}").load_model(str(path))
        else:
            files = {entry.name: entry.digest for entry in tree.decode_manifest(root)}
            model = pickle.loads(stored.datastore.read(files[folder.PICKLE]))
        if SignedModel in kinds or (signed and not (kinds and isinstance(model, tuple(kinds)))):
            return _signed(model, root, stored.datastore)
        return model

    def blobs(self, root: memoryview, datastore: Datastore) -> set[Digest]:
        """Return the blobs of all files of the folder."""
        return tree.blobs(root, datastore)

    def describe(self, leaf: Leaf) -> str:
        """Return the class."""
        return f"model {leaf.form.removesuffix(' signed').partition(' ')[2]}"


CODEC = ModelCodec()


def _signature(value: SignedModel, storing: Storing) -> tuple[Any, Any]:
    """Return the signature, inferred when only an example was given, and the rows of the example to keep."""
    example = value.example
    if value.signature is None and example is None:
        storing.refuse("a SignedModel needs an example (rows as the model takes them) or a signature")
    signature = value.signature
    if signature is None:
        from mlflow_pipes.content.model.signature import infer

        try:
            signature = infer(value.model, example)
        except Exception as error:  # noqa: BLE001 - whatever the model's predict raises
            storing.refuse(
                f"the signature cannot be inferred: predicting the example failed: {type(error).__name__}: {error}. "
                f"Fit the model first, and give rows with the columns it was trained on"
            )
    is_frame = type(example).__module__.partition(".")[0] == "pandas" and type(example).__name__ == "DataFrame"
    return signature, example.head(5).reset_index(drop=True) if is_frame else None


def _write_sklearn(model: Any, flavor: str, signature: Any, example: Any, storing: Storing) -> bytes:
    """Write the folder ourselves: neither slow nor different each time."""
    del flavor
    try:
        pickled = _settled_pickle(model)
        with_pandas = example is not None or hasattr(model, "feature_names_in_")
        digest = storing.datastore.put((pickled,))
        files = folder.sklearn_files(digest, signature, example, with_pandas=with_pandas)
    except (Declined, ValueError, TypeError, AttributeError, pickle.PicklingError, OverflowError) as error:
        storing.refuse(
            f"the {type(model).__qualname__} cannot be stored: {error}; remove what cannot be pickled from it"
        )
    entries = [tree.Entry(name, "file", storing.datastore.put((content,))) for name, content in files.items()]
    return tree.encode_manifest([*entries, tree.Entry(folder.PICKLE, "file", digest)])


def _settled_pickle(model: Any) -> bytes:
    import cloudpickle

    pickled: bytes = cloudpickle.dumps(model, protocol=5)
    if len(pickled) <= _SETTLED_BYTES:
        pickled = cloudpickle.dumps(pickle.loads(pickled), protocol=5)
    return pickled


def _write_by_mlflow(model: Any, flavor: str, signature: Any, example: Any, storing: Storing) -> bytes:
    """Let MLflow write the folder, and take out what differs each time."""
    from mlflow.models import ModelSignature

    module = importlib.import_module(f"mlflow.{flavor}")
    needs = [*folder.requirements("mlflow", "numpy", "pandas", flavor, "scikit-learn", "scipy")]
    with tempfile.TemporaryDirectory(prefix="mlflow_pipes-model-") as temporary:
        path = Path(temporary) / _NAME
        options: dict[str, Any] = {"signature": ModelSignature.from_dict(dict(signature))} if signature else {}
        if "serialization_format" in inspect.signature(module.save_model).parameters:
            options["serialization_format"] = "cloudpickle"  # the default, skops, writes memory addresses
            model = pickle.loads(_settled_pickle(model))
        module.save_model(model, str(path), pip_requirements=needs, **options)
        for name, content in (folder.example_files(example) if example is not None else {}).items():
            (path / name).write_bytes(content)
        described = path / "MLmodel"
        text = folder.without_moment(described.read_bytes(), "")
        described.write_bytes(text)
        content = folder_manifest(path, storing)[0]
        described.write_bytes(folder.without_moment(text, digest_record("pipes.model/1", (content,))))
        return folder_manifest(path, storing)[0]


def _signed(model: Any, root: memoryview, datastore: Datastore) -> SignedModel:
    files = {entry.name: entry.digest for entry in tree.decode_manifest(root)}
    example = None
    if folder.EXAMPLE_TABLE in files:
        from mlflow_pipes.content.codecs.table import frames

        example = frames.decode(datastore.read(files[folder.EXAMPLE_TABLE]))
    return SignedModel(model, example, folder.read(datastore.read(files["MLmodel"])).get("signature"))
