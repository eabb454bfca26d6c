"""Disks that are full and files that are damaged: an error that says where and what to do, and nothing half-written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_pipes import Workspace, run, step
from mlflow_pipes.errors import LedgerError

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ledger_in_workspace")]

# Run with a workspace that is a filesystem of few megabytes, which is then made large; it ends with all as usual.
FLOW = """
import subprocess, sys
from pathlib import Path
from mlflow_pipes import Workspace, current_run, pipeline, run, step
from mlflow_pipes.errors import PipesError

@step
def output(number: int) -> bytes:
    return number.to_bytes(4, "big") * 500_000

@step
def lines(number: int) -> int:
    for _ in range(15_000):
        print("x" * 200)
    return number

@step
def scratch(number: int) -> int:
    (current_run().scratch / "file").write_bytes(b"x" * 8_000_000)
    return number

@step
def tiny(number: int) -> int:
    return number

@pipeline
def outputs():
    return [output(number) for number in range(4)]

@pipeline
def logs():
    return [lines(number) for number in range(4)]

@pipeline
def scratches():
    return [scratch(number) for number in range(2)]

@pipeline
def history():
    return [tiny(number) for number in range(8_000)]

if __name__ == "__main__":
    which, folder = sys.argv[1:]
    declared = {"outputs": outputs, "logs": logs, "scratches": scratches, "history": history}[which]
    with Workspace.open(folder) as workspace:
        try:
            run(declared(), workspace=workspace, observers=())
            sys.exit("the disk was not full")
        except (PipesError, OSError) as error:
            print(type(error).__name__, error)
    assert not list(Path(folder).glob("datastore/incoming/*")), "half-written blobs"
    assert not list(Path(folder).glob("scratch/*")), "scratch files left"
    subprocess.run(["mount", "-o", "remount,size=100m", folder], check=True)
    with Workspace.open(folder) as workspace:
        if which == "history":
            declared = outputs
        done = run(declared(), workspace=workspace, observers=())
        print("then", done.status.value, sum(one.reused for one in done.steps))
"""


@pytest.fixture(scope="module")
def small_disk():
    """Give a command prefix that runs a script with a folder of 4 MB."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces to mount a small filesystem in")

    def start(script, which, folder):
        folder.mkdir()
        mounted = 'mount -t tmpfs -o size=4m none "$1" && exec "$2" "$3" "$4" "$1"'
        return subprocess.run(
            [unshare, "-rm", "sh", "-c", mounted, "sh", str(folder), sys.executable, str(script), which],
            cwd=script.parent,
            env={**os.environ, "PIPES_PUBLISH": "off"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return start


@pytest.mark.parametrize(
    ("which", "error", "place"),
    [
        ("outputs", "RunFailed", "datastore"),
        ("logs", "WorldError", "logs"),
        ("scratches", "", ""),  # the step's own code or the ledger, whoever writes next
        ("history", "LedgerError", "ledger.db"),
    ],
)
def test_a_full_disk_is_told_with_place_and_remedy_and_all_goes_on_when_there_is_room(
    small_disk, tmp_path, which, error, place
):
    script = tmp_path / "flow.py"
    script.write_text(FLOW, encoding="utf-8")
    done = small_disk(script, which, tmp_path / "workspace")
    assert done.returncode == 0, done.stdout + done.stderr
    told, _, then = done.stdout.strip().rpartition("\n")
    assert told.startswith(error), told
    if which != "scratches":
        assert str(tmp_path / "workspace" / place) in told
        assert "Free space there" in told
    assert then.startswith("then succeeded")
    if which == "outputs":
        assert int(then.split()[-1]) >= 1


@step
def double(number: int) -> int:
    return number * 2


@pytest.mark.parametrize("damage", ["head", "tail", "text"])
def test_a_damaged_ledger_is_told_with_the_way_out(tmp_path, damage):
    with Workspace.open(tmp_path / "w") as workspace:  # closed: an open connection would write over the damage
        run(double(1), workspace=workspace, observers=())
    ledger = tmp_path / "w" / "ledger.db"
    for left in ledger.parent.glob("ledger.db-*"):
        left.unlink()
    content = bytearray(ledger.read_bytes())
    if damage == "text":
        content[:] = b"not a database, but long enough to be taken for one" * 100
    else:
        start = 0 if damage == "head" else 4096
        content[start : start + 20_000] = os.urandom(20_000)
    ledger.write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger\.db.* file is damaged: .*move it") as caught:
        run(double(1), workspace=tmp_path / "w", observers=())
    assert str(ledger) in str(caught.value)
    for file in Path(tmp_path / "w").glob("ledger.db*"):
        file.unlink()
    assert run(double(1), workspace=tmp_path / "w", observers=()).output() == 2


def test_a_ledger_that_another_process_locks_for_a_while_is_waited_for(tmp_path):
    with Workspace.open(tmp_path / "w") as workspace:
        script = (
            "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
            "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); time.sleep(1.5); c.execute('ROLLBACK')"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, str(workspace.folder / "ledger.db")], stdout=subprocess.PIPE
        ) as locker:
            assert locker.stdout.readline() == b"locked\n"
            assert run(double(3), workspace=workspace, observers=()).output() == 6
