import io
from pathlib import Path

import pytest

from mlflow_pipes.content import describe, load, store
from mlflow_pipes.stores.memory import MemoryDatastore

matplotlib = pytest.importorskip("matplotlib")
pytestmark = pytest.mark.integration


def figure(height=1):
    from matplotlib.figure import Figure

    made = Figure()
    made.subplots().plot([0, height])
    return made


def test_a_figure_is_stored_as_its_picture_and_given_as_bytes_or_path(tmp_path):
    import matplotlib.image

    datastore = MemoryDatastore()
    artifact = store(figure(), datastore)
    assert artifact.codec == "figure"
    assert describe(artifact).startswith("figure, ")
    picture = load(artifact, datastore)
    assert matplotlib.image.imread(io.BytesIO(picture)).shape == (480, 640, 4)
    path = load(artifact, datastore, Path, checkout=tmp_path)
    assert path.name == "figure.png"
    assert path.read_bytes() == picture
    assert isinstance(load(artifact, datastore, str, checkout=tmp_path), str)
    with pytest.raises(TypeError, match="stored as its picture"):
        load(artifact, datastore, matplotlib.figure.Figure)


def test_equal_figures_have_equal_identities():
    datastore = MemoryDatastore()
    assert store(figure(), datastore) == store(figure(), datastore)
    assert store(figure(), datastore) != store(figure(2), datastore)


def test_a_figure_of_pyplot_is_taken_too():
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    made, axes = plt.subplots()
    axes.plot([0, 1])
    assert store(made, MemoryDatastore()) == store(figure(), MemoryDatastore())
    plt.close(made)
