"""Compare, register: what becomes of the champion over several runs of one pipeline."""

import sys
import textwrap

import pytest

from mlflow_pipes import Workspace, run
from mlflow_pipes.lifecycle import ModelRegistry

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PIPELINE = """
    import pandas as pd
    from mlflow_pipes import SignedModel, pipeline, step
    from mlflow_pipes_steps import ModelVersion, compare_with_champion, register_model

    @step
    def train(slope: float) -> SignedModel:
        from sklearn.linear_model import LinearRegression
        rows = pd.DataFrame({"x": [0.0, 1.0]})
        return SignedModel(LinearRegression().fit(rows, rows.x * slope), rows)

    @pipeline
    def promote(slope: float, mae: float) -> ModelVersion:
        model = train(slope)
        comparison = compare_with_champion(model, {"mae": mae}, "line", "mae")
        return register_model(model, "line", {"mae": mae}, comparison)
"""


@pytest.fixture
def promote(tmp_path, monkeypatch):
    (tmp_path / "promotion_pipeline.py").write_text(textwrap.dedent(PIPELINE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI", "PIPES_MLFLOW_URI", "PIPES_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    import promotion_pipeline

    with Workspace.open(tmp_path / ".pipes") as workspace:
        yield lambda slope, mae: run(promotion_pipeline.promote(slope=slope, mae=mae), workspace=workspace)
    del sys.modules["promotion_pipeline"]


def test_the_champion_is_who_has_won_and_old_results_do_not_bring_an_old_one_back(promote, tmp_path):
    def after(slope, mae):
        done = promote(slope, mae)
        version = done.output()
        champion = ModelRegistry.of_workspace(tmp_path / ".pipes", {}).champion("line")
        return version.version, champion.version, {step.name for step in done.steps if not step.reused}

    looks = "compare_with_champion"
    assert after(1.0, 3.0) == ("1", "1", {"train", looks, "register_model"})
    assert after(1.0, 3.0) == ("1", "1", {looks})
    assert after(2.0, 2.0) == ("2", "2", {"train", looks, "register_model"})
    # Back to the first model: it was champion once, but is not better than who is now.
    assert after(1.0, 3.0) == ("2", "2", {looks, "register_model"})
    assert after(1.0, 3.0) == ("2", "2", {looks})
    assert after(2.0, 2.0) == ("2", "2", {looks})
    # A worse one is not registered at all.
    assert after(3.0, 9.0) == ("2", "2", {"train", looks, "register_model"})
