import sys

import pytest

from mlflow_pipes.content import describe, load, registry, store
from mlflow_pipes.errors import DatastoreError
from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.stores.memory import MemoryDatastore

MODULE = """
from mlflow_pipes.content import Declined, Encoded

class Temperature:
    def __init__(self, celsius):
        self.celsius = celsius

class TemperatureCodec:
    name = "temperature"
    def accepts(self, value):
        return isinstance(value, Temperature)
    def encode(self, value, storing):
        if value.celsius < -273.15:
            storing.refuse("colder than cold; check the sensor")
        if value.celsius > 1e6:
            raise Declined("too hot")
        return Encoded(repr(value.celsius).encode(), "celsius")
    def decode(self, stored, wanted):
        return Temperature(float(bytes(stored.view())))
"""


@pytest.fixture
def weather(tmp_path, monkeypatch):
    (tmp_path / "weather_of_others.py").write_text(MODULE)
    (tmp_path / "weather_of_others-1.0.dist-info").mkdir()
    (tmp_path / "weather_of_others-1.0.dist-info" / "METADATA").write_text("Name: weather_of_others\nVersion: 1.0\n")
    (tmp_path / "weather_of_others-1.0.dist-info" / "entry_points.txt").write_text(
        "[mlflow_pipes.codecs]\ntemperature = weather_of_others:TemperatureCodec\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    caches = (registry.named, registry.third_party)
    for cache in caches:
        cache.cache_clear()
    import weather_of_others

    yield weather_of_others
    del sys.modules["weather_of_others"]
    for cache in caches:
        cache.cache_clear()


def test_a_codec_of_another_package_is_found_by_its_entry_point(weather):
    datastore = MemoryDatastore()
    artifact = store(weather.Temperature(20.5), datastore)
    assert (artifact.codec, artifact.form) == ("temperature", "celsius")
    assert load(artifact, datastore).celsius == 20.5
    assert describe(artifact) == "temperature celsius, 4 bytes"


def test_a_codec_may_decline_and_may_refuse(weather):
    assert store(weather.Temperature(1e7), MemoryDatastore()).codec == "pickle"
    with pytest.raises(Exception, match=r"output\['a'\]: colder than cold; check the sensor"):
        store({"a": weather.Temperature(-300)}, MemoryDatastore())


def test_codecs_of_others_are_not_looked_up_while_a_built_in_fits():
    registry.third_party.cache_clear()
    datastore = MemoryDatastore()
    load(store([1, "a", {"x": (1.5,)}], datastore), datastore)
    assert registry.third_party.cache_info().misses == 0


def test_a_codec_that_is_not_installed_is_an_error_with_a_remedy():
    leaf = Leaf("tabel", store(1, MemoryDatastore()).digest, "x")
    with pytest.raises(DatastoreError, match=r"codec 'tabel', which is not installed here; did you mean 'table'\?"):
        load(leaf, MemoryDatastore())
    assert describe(leaf) == "tabel x"
