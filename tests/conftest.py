"""What holds for every test: no workspace, display or MLflow of the person who runs them leaks in."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Few examples in each of many runs here, many examples where nobody waits.
settings.register_profile("local", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("local"), max_examples=100, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

FOREIGN = (
    "PIPES_WORKSPACE",
    "PIPES_TARGET",
    "PIPES_DEBUG",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
)


@pytest.fixture(autouse=True)
def _no_foreign_settings(monkeypatch):
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIPES_DISPLAY", "off")
    monkeypatch.setenv("PIPES_PUBLISH", "off")
