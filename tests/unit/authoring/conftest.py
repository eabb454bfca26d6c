"""Graphs without fingerprints: what these tests are about does not depend on code."""

from __future__ import annotations

import pytest

from mlflow_pipes.authoring import graph_of
from mlflow_pipes.model.step import CodeFingerprint, PickledFunction


def identify(function, settings):
    name = getattr(function, "__qualname__", "partial")
    return CodeFingerprint(digest=name), PickledFunction(name, b"")


@pytest.fixture
def declared():
    """Return the graph of a call, its functions identified by name."""
    return lambda call: graph_of(call, identify=identify)
