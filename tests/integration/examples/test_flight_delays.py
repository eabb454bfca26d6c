"""The examples, run as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mlflow_pipes.lifecycle import ModelRegistry, ServiceRegistry

pytestmark = [pytest.mark.integration, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[3] / "examples"
ALWAYS = {f"deployment/{name}" for name in ("compare_with_champion", "deploy_web_service", "call_web_service")}


def run_example(folder, name, *arguments):
    foreign = [key for key in os.environ if key.startswith(("PIPES_", "MLFLOW_")) and key != "PIPES_LEDGER"]
    return subprocess.run(
        [sys.executable, str(folder / name), *arguments],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key not in foreign},
        text=True,
        capture_output=True,
        timeout=600,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    """The examples as a project of their own."""
    place = tmp_path / "examples"
    shutil.copytree(EXAMPLES, place, ignore=shutil.ignore_patterns(".pipes", "__pycache__"))
    (place / "pipes.toml").touch()
    yield place
    services = ServiceRegistry.of_workspace(place / ".pipes")
    for service in services.list():
        with suppress(Exception):
            services.remove(service.name)


def test_hello_says_hello_and_the_second_time_computes_nothing(folder):
    first = run_example(folder, "hello.py")
    assert first.stdout.strip() == "HELLO, WORLD! HELLO, MOON!", first.stderr
    second = run_example(folder, "hello.py")
    assert second.stdout == first.stdout
    assert "3 reused" in second.stderr


@pytest.mark.timeout(600)
def test_flight_delays_ends_in_a_served_champion_and_the_second_time_only_looks_at_the_world(folder):
    from mlflow_pipes import Workspace

    first = run_example(folder, "flight_delays.py")
    assert first.returncode == 0, first.stderr
    home = folder / ".pipes"
    champion = ModelRegistry.of_workspace(home, {}).champion("flight-delays")
    assert champion.version == "1"
    assert champion.metrics["mae"] < 12.6
    assert champion.metrics["gain_over_naive_guess"] > 0.06
    service = ServiceRegistry.of_workspace(home).get("delays")
    assert (service.status, service.version, service.model_digest) == ("running", "1", champion.digest)

    second = run_example(folder, "flight_delays.py")
    assert second.returncode == 0, second.stderr
    with Workspace.open(home) as workspace:
        newest, oldest = sorted(workspace.runs.list(), key=lambda done: done.started_at, reverse=True)
        assert {step.node for step in newest.steps if not step.reused} == ALWAYS
        assert all(isinstance(value, float) for value in newest.output())
        assert newest.output() == oldest.output()
        registered = newest.step("deployment/register_model").output()
        assert len(json.loads(_tags(registered)["pipes.data_digests"])["data"]) == 64
        assert _tags(registered)["pipes.run_id"] == oldest.id
    assert ServiceRegistry.of_workspace(home).get("delays").pid == service.pid

    edited = folder / "flight_delays.py"
    edited.write_text(edited.read_text().replace("// 100 * 60", "// 100 * 61"))
    planned = subprocess.run(
        [str(Path(sys.executable).with_name("pipes")), "plan", "flight_delays.py"],
        cwd=folder, check=True, text=True, capture_output=True,
    ).stdout  # fmt: skip
    assert "planned_minutes" in planned


def _tags(version):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(version.registry.removeprefix("sqlite:///"))) as database:
        rows = database.execute("SELECT key, value FROM model_version_tags WHERE name = ?", (version.name,))
        return dict(rows.fetchall())
