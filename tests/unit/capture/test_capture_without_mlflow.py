"""What a step pays that does not log anything; a process of its own, because others import MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mlflow_pipes.worker.capture import environment
from mlflow_pipes.worker.capture.location import Location


def _python(code: str, tmp_path: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_step_that_logs_nothing_imports_no_mlflow_makes_no_file_and_costs_little(tmp_path: Path) -> None:
    out = _python(
        """
        import os, sys, time
        from pathlib import Path
        from mlflow_pipes.model.tracked import NOTHING_TRACKED
        from mlflow_pipes.worker import capture

        before = dict(os.environ)
        times = []
        for number in range(50):
            began = time.process_time()
            capture.begin("a" * 32, "quiet", Path("scratch"))
            assert "a" * 32 in os.environ["MLFLOW_TRACKING_URI"]
            assert capture.finish(None) is NOTHING_TRACKED
            times.append(time.process_time() - began)
        assert dict(os.environ) == before
        assert not Path("scratch").exists()
        assert not any(name.partition(".")[0] == "mlflow" for name in sys.modules)
        print(sorted(times)[25])
        """,
        tmp_path,
    )
    assert float(out) < 0.001  # measured 0.15 ms; room for a busy machine


def test_one_capture_at_a_time(tmp_path: Path) -> None:
    _python(
        """
        from pathlib import Path
        from mlflow_pipes.errors import InternalError
        from mlflow_pipes.worker import capture

        capture.begin("a" * 32, "first", Path("scratch"))
        try:
            capture.begin("b" * 32, "second", Path("scratch"))
        except InternalError as error:
            assert "a" * 32 in str(error)
        else:
            raise AssertionError
        """,
        tmp_path,
    )


@pytest.mark.parametrize(
    ("environ", "registry"),
    [
        ({}, None),
        ({"PIPES_MLFLOW_URI": "http://here"}, "http://here"),
        ({"MLFLOW_TRACKING_URI": "http://user"}, "http://user"),
        ({"PIPES_MLFLOW_URI": "http://here", "MLFLOW_REGISTRY_URI": "http://models"}, "http://models"),
    ],
)
def test_the_model_registry_stays_the_real_one(environ: dict[str, str], registry: str | None) -> None:
    wanted = environment.wanted(Location("a" * 32, "step", Path("/scratch")), environ)
    assert wanted.get("MLFLOW_REGISTRY_URI") == registry
    assert str(wanted["MLFLOW_TRACKING_URI"]).startswith("pipes-capture://")
    assert wanted["MLFLOW_DISABLE_TELEMETRY"] == "true"
