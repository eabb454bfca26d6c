"""Whole runs whose workers start before the ledger is open."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.integration

FLOW = """
    import os, sys, time
    from mlflow_pipes import pipeline, run, step

    print("imported")

    @step
    def one(x: int) -> int:
        print("one")
        return x + 1

    @step
    def two(x: int) -> int:
        print("two")
        return x + 1

    @pipeline
    def flow(x: int):
        return two(one(x))

    if __name__ == "__main__":
        from mlflow_pipes.targets.local import spare_zygote

"""


@pytest.fixture
def program(tmp_path):
    """Runs a script with the flow in a process of its own, in one workspace; returns what it printed."""

    def program(body):
        (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW) + textwrap.indent(textwrap.dedent(body), "    "))
        done = subprocess.run(
            [sys.executable, "-W", "error", "flow.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PIPES_WORKSPACE": str(tmp_path / ".pipes")},
        )
        assert done.stderr == ""
        return done.stdout.split("\n", 1)[1].strip()

    return program


LINES = """
from pathlib import Path
from mlflow_pipes.workspace.logs import read_log
done = run(flow(1), observers=())
lines = read_log(Path(os.environ["PIPES_WORKSPACE"]), done.id)
print([(line.attempt.node, line.text) for line in lines])
"""


def test_lines_of_an_import_stand_once_in_the_log_of_the_step_that_came_first(program):
    assert program(LINES) == "[('one', 'imported'), ('one', 'one'), ('two', 'two')]"


def test_a_run_that_is_reused_whole_starts_no_process(program):
    program("run(flow(1), observers=())")
    body = "done = run(flow(1), observers=()); print(done.output(), spare_zygote._spare)"
    assert program(body) == "3 None"


def test_an_error_after_workers_were_started_leaves_none_of_them(program, tmp_path, monkeypatch):
    monkeypatch.delenv("PIPES_LEDGER", raising=False)  # the error is one of a ledger in the workspace
    (tmp_path / ".pipes" / "ledger.db.lock").mkdir(parents=True)
    body = """
        import psutil
        from mlflow_pipes.errors import LedgerError
        try:
            run(flow(1), observers=())
        except LedgerError:
            spare = spare_zygote._spare
            print({child.pid for child in psutil.Process().children(recursive=True)} - {spare and spare.link.pid})
    """
    assert program(body) == "set()"


def test_runs_of_one_process_have_workers_of_one_zygote_and_their_own_environment(program):
    body = """
        seen = []
        for number in (1, 2, 3):
            done = run(flow(number), observers=())
            seen.append((done.output(), spare_zygote._spare.link.pid))
        print([output for output, _ in seen], len({pid for _, pid in seen}))
    """
    assert program(body) == "[3, 4, 5] 1"
