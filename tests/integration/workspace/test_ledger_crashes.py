import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from mlflow_pipes.model.run import Claimed, Hit, LookUp
from mlflow_pipes.testing.ledger_records import hex_id, key_of, started, value
from mlflow_pipes.workspace import Workspace

PLAYERS = Path(__file__).parent / "ledger_players.py"

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("either_ledger")]


def play(*arguments, **options):
    return subprocess.Popen([sys.executable, str(PLAYERS), *map(str, arguments)], **options)


def end(processes):
    for process in processes:
        process.kill()
        process.wait()


def test_processes_that_make_one_workspace_and_want_the_same_keys_compute_each_once(tmp_path):
    folder = tmp_path / "w"
    players = [play("compute", folder, f"run {number}", 200) for number in range(8)]
    try:
        assert [player.wait(100) for player in players] == [0] * 8
    finally:
        end(players)
    lines = (folder / "computed.txt").read_text().splitlines()
    assert Counter(line.split()[0] for line in lines) == {str(number): 1 for number in range(200)}


def test_a_ledger_whose_writers_are_killed_stays_readable_and_lies_about_nothing(tmp_path):
    folder = tmp_path / "w"
    chance = random.Random(7)
    runs = [f"writer{number}" for number in range(4)]
    players = []
    try:
        for run in runs:
            players.append(play("write", folder, run))
            while not ((folder / f"{run}.told").exists() and (folder / f"{run}.told").read_text()):
                time.sleep(0.01)
            time.sleep(chance.uniform(0.02, 0.2))
            players[-1].send_signal(signal.SIGKILL)
    finally:
        end(players)
    with Workspace.open(folder) as workspace:
        if workspace.configuration.ledger is None:
            (check,) = workspace.ledger.database.core().exec_driver_sql("PRAGMA integrity_check").fetchall()
            assert check[0] == "ok"
        for run in runs:
            told = (folder / f"{run}.told").read_text().splitlines()
            assert told
            answers = workspace.ledger.exchange([], [LookUp(key_of(name), "x", claim=False) for name in told], 0.0)
            assert all(isinstance(answer, Hit) for answer in answers)
            assert [answer.output for answer in answers] == [value(f"value of {name}") for name in told]
            record = workspace.runs.get(hex_id(run))
            assert record.status == "interrupted"
            steps = {step.node: step for step in record.steps}
            assert all(steps[name].status == "succeeded" for name in told)
            assert len(steps) - len(told) <= 2
            assert not {str(step.status) for step in steps.values()} & {"running", "waiting"}


def test_what_a_killed_run_held_is_free_at_once_for_others_on_this_machine(tmp_path):
    folder = tmp_path / "w"
    holder = play("hold", folder, "holder", stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"holding\n"
        with Workspace.open(folder) as workspace:
            assert workspace.runs.get(hex_id("holder")).status == "running"
            workspace.ledger.exchange([started("other")], [], time.time())
            question = LookUp(key_of("slow"), hex_id("other"))
            (answer,) = workspace.ledger.exchange([], [question], time.time())
            assert answer.run_id == hex_id("holder")
            holder.send_signal(signal.SIGKILL)  # not waited for: a zombie is dead too
            deadline = time.monotonic() + 60
            while not isinstance(answer, Claimed):
                assert time.monotonic() < deadline
                time.sleep(0.05)
                (answer,) = workspace.ledger.exchange([], [question], time.time())
            run = workspace.runs.get(hex_id("holder"))
            assert (run.status, run.step("slow").status) == ("interrupted", "interrupted")
    finally:
        end([holder])
        holder.stdout.close()
