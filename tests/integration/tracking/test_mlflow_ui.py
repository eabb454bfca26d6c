"""The MLflow UI on a workspace shows each run with its steps below it; seen in a real browser."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest

from mlflow_pipes import Workspace, current_run, pipeline, run, step

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)"),
]


@step
def prepared(rows: int) -> int:
    return rows


@step
def trained(rows: int, max_depth: int) -> float:
    current_run().log("rmse", rows / max_depth)
    return rows / max_depth


@pipeline
def shown(rows: int = 12):
    data = prepared(rows)
    return [trained(data, max_depth=depth) for depth in (4, 8)]


@pytest.fixture
def ui(tmp_path):
    """``pipes ui`` on a workspace with one run, and the address that it tells."""
    folder = tmp_path / ".pipes"
    with Workspace.open(folder) as workspace:
        run(shown(), workspace=workspace, observers=())
    with subprocess.Popen(
        [sys.executable, "-m", "mlflow_pipes", "ui", "--json", "--workspace", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said = ""
            while "}" not in said:
                line = process.stdout.readline()
                assert line, f"`pipes ui` ended: {said}"
                said += line
            yield process, json.loads(said)["url"]
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)


def test_the_ui_shows_the_steps_below_their_run_and_ends_with_ctrl_c(ui, tmp_path):
    process, address = ui
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1100})
        page.goto(f"{address}/#/experiments/1/runs", timeout=90_000)
        page.get_by_role("link", name="shown", exact=True).last.wait_for(timeout=60_000)
        page.locator("[data-testid=expander], .ag-cell button, [data-test-id=expander]").first.click(timeout=20_000)
        for name in ("prepared", "trained[max_depth=4]", "trained[max_depth=8]"):
            page.get_by_role("link", name=name, exact=True).wait_for(timeout=20_000)
        page.screenshot(path=tmp_path / "runs.png")
        browser.close()
    assert (tmp_path / "runs.png").stat().st_size > 10_000
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(address, timeout=2)
    assert (tmp_path / ".pipes" / "ui.log").exists()
