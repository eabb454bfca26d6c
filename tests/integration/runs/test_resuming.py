"""A run that resumes another: what happened is not done again, what may have happened is, and says so."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mlflow_pipes import Workspace, pipeline, resume, run, step
from mlflow_pipes.errors import DeclarationError, NotFoundError, RunFailed
from mlflow_pipes.model.resumption import UNKNOWN_EFFECT
from mlflow_pipes.worker.context import current_run
from tests.integration.runs.test_surviving import is_running, members
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

SHOP = """
import os, sys, time
from pathlib import Path
from mlflow_pipes import current_run, pipeline, run, step

PRICE = 5

def tell(text):
    with open("effects", "ab", buffering=0) as log:
        log.write(f"{text} {current_run().idempotency_key}\\n".encode())

@step
def price(item: str) -> int:
    return PRICE

@step(reuse="never", retries=1)
def pay(item: str, price: int) -> str:
    tell(f"begin {item}")
    while Path("stop").exists():
        time.sleep(0.02)
    if Path("refuse").exists() and current_run().attempt == 1:
        raise ValueError("no money")
    tell(f"paid {item}")
    return f"receipt of {item}"

@step
def report(receipts: list[str], moment: float) -> list[str]:
    if Path("broken").exists():
        raise ValueError("no printer")
    return receipts

@step(reuse="never")
def pay_all(items: list[str]) -> list[str]:
    tell("asked")
    return [pay(item, price(item)) for item in items]

@step(reuse="never")
def goodbye() -> None:
    tell("goodbye")

@pipeline(always=goodbye)
def shop(items: tuple[str, ...] = ("bread", "bread", "milk"), moment: float = 0.0):
    return report([pay(item, price(item)) for item in items], moment)

@pipeline
def grown(items: tuple[str, ...] = ("bread", "bread", "milk"), moment: float = 0.0):
    return report(pay_all(list(items)), moment)

if __name__ == "__main__":
    run({"shop": shop, "grown": grown}[sys.argv[1]](moment=float(os.getpid())), observers=())
"""


@pytest.fixture
def project(tmp_path, either_ledger, monkeypatch):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "pipes.toml").write_text("[targets.local]\nworkers = 2\n", encoding="utf-8")
    (folder / "shop.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def start(project, which="shop"):
    return subprocess.Popen(
        [sys.executable, "shop.py", which], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def run_to_its_failure(project, which="shop"):
    (project / "broken").touch()
    process = start(project, which)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out.decode()
    (project / "broken").unlink()


def pipes(project, *words, code=0):
    done = subprocess.run(
        [Path(sys.executable).with_name("pipes"), *words],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PIPES_DISPLAY": "plain"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def effects(project):
    """Return what was told, with its idempotency key, in order."""
    return [tuple(line.rsplit(" ", 1)) for line in (project / "effects").read_text().splitlines()]


def told(project):
    return Counter(text for text, _ in effects(project))


def kill(process):
    """Kill a run, and wait until its workers have seen it."""
    started = members(process.pid)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(is_running(pid) for pid in started))


BEGUN = Counter({"begin bread": 2, "begin milk": 1})
PAID = Counter({"paid bread": 2, "paid milk": 1})
ASKED, GOODBYE = Counter({"asked": 1}), Counter({"goodbye": 1})


@pytest.mark.parametrize("which", ["shop", "grown"])
def test_what_happened_in_the_run_resumed_is_not_done_again(project, which):
    run_to_its_failure(project, which)
    (project / "broken").touch()
    pipes(project, "resume", code=1)
    (project / "broken").unlink()
    pipes(project, "resume")
    three_ends = Counter({"goodbye": 3})
    assert told(project) == BEGUN + PAID + (ASKED if which == "grown" else three_ends)
    with Workspace.open(project) as workspace:
        last, again, first = workspace.runs.list()
        assert [one.status for one in (first, again, last)] == ["failed", "failed", "succeeded"]
        assert (last.resumed_from, again.resumed_from, first.resumed_from) == (again.id, first.id, None)
        assert last.first_run_id == again.first_run_id == first.id
        assert last.parameters == first.parameters
        assert last.output() == ["receipt of bread", "receipt of bread", "receipt of milk"]
        pay = [one for one in last.steps if one.effect]
        assert {one.status.value for one in pay} == {"reused"}
        assert {one.reused_from_run for one in pay} == {first.id}
        assert all(f"it happened in run {first.id[:8]}" in one.reason for one in pay)


@pytest.mark.usefixtures("sqlite_alone")
def test_hooks_run_once_in_each_run(project):
    run_to_its_failure(project)
    assert told(project)["goodbye"] == 1
    pipes(project, "resume")
    assert told(project)["goodbye"] == 2


@pytest.mark.parametrize("which", ["shop", "grown"])
def test_an_effect_that_ran_when_its_orchestrator_died_is_done_again_with_its_key_and_says_so(project, which):
    (project / "stop").touch()
    process = start(project, which)
    wait_until(lambda: (project / "effects").exists() and len(effects(project)) == (3 if which == "grown" else 2))
    kill(process)
    begun = [(text, key) for text, key in effects(project) if text != "asked"]
    (project / "stop").unlink()
    shown = pipes(project, "show").stdout
    assert shown.count(UNKNOWN_EFFECT.partition(";")[0]) == 2
    with Workspace.open(project) as workspace:
        killed = workspace.runs.get("latest")
        assert killed.status == "interrupted"
        assert killed.message.startswith("its orchestrator process died; resume it")
        unknown = [one.node for one in killed.steps if one.reason == UNKNOWN_EFFECT]
        assert len(unknown) == 2
        assert {one.node for one in killed.steps if one.effect and one.started_at is None}.isdisjoint(unknown)
    resumed = pipes(project, "resume").stderr
    assert resumed.count("warning: it may have happened in run") == 2
    assert resumed.count("with the same idempotency key") == 2
    assert len(set(begun)) == 2
    again = [(text, key) for text, key in effects(project) if text.startswith("begin")]
    assert set(begun) < set(again)
    assert Counter(again) == Counter(dict.fromkeys(again, 1)) + Counter(begun)
    assert told(project) == Counter(text for text, _ in again) + PAID + (ASKED if which == "grown" else GOODBYE)


@pytest.mark.usefixtures("sqlite_alone")
def test_the_idempotency_key_is_the_same_for_all_attempts_of_a_step_and_no_other(project):
    (project / "refuse").touch()
    run_to_its_failure(project)
    begun = [key for text, key in effects(project) if text.startswith("begin")]
    assert set(Counter(begun).values()) == {2}  # two attempts each
    assert len(set(begun)) == 3
    process = start(project)
    process.communicate(timeout=60)
    anew = {key for text, key in effects(project) if text.startswith("begin")} - set(begun)
    assert len(anew) == 3  # another run is another matter


@pytest.mark.usefixtures("sqlite_alone")
def test_the_file_may_have_been_edited_keys_decide(project):
    run_to_its_failure(project)
    (project / "shop.py").write_text(SHOP.replace('f"receipt of {item}"', 'f"bill of {item}"'), encoding="utf-8")
    pipes(project, "resume")
    with Workspace.open(project) as workspace:
        last = workspace.runs.get("latest")
        assert last.output() == ["bill of bread", "bill of bread", "bill of milk"]
        assert {one.status.value for one in last.steps if one.name == "pay"} == {"succeeded"}
        assert {one.status.value for one in last.steps if one.name == "price"} == {"reused"}
    assert "function shop.pay" in pipes(project, "explain", "pay[item=milk]").stdout
    assert told(project)["paid milk"] == 2


def test_a_run_that_lives_cannot_be_resumed_and_neither_what_a_living_run_resumes(project):
    (project / "stop").touch()
    process = start(project)
    wait_until((project / "effects").exists)
    refused = pipes(project, "resume", code=2).stderr
    assert "is still under way; wait for its end, or stop it: pipes cancel" in refused
    kill(process)
    before = len(effects(project))
    with Workspace.open(project) as workspace:
        first = workspace.runs.get("latest")
    second = subprocess.Popen([Path(sys.executable).with_name("pipes"), "resume", first.id], cwd=project)
    wait_until(lambda: len(effects(project)) > before)
    refused = pipes(project, "resume", first.id, code=2).stderr
    assert f"resumes {first.id[:8]} and is still under way" in refused
    (project / "stop").unlink()
    assert second.wait(timeout=60) == 0


@pytest.mark.usefixtures("sqlite_alone")
def test_a_run_goes_on_from_where_it_was_started_with_what_it_was_started_with(project, tmp_path):
    (project / "broken").touch()
    pipes(project, "run", "shop.py:shop", "--items", "tea,salt", "--tag", "who=ann", "--continue", code=1)
    (project / "broken").unlink()
    done = pipes(tmp_path, "resume", "--workspace", str(project / ".pipes"), "--json")
    record = json.loads(done.stdout)
    assert record["parameters"]["items"] == "('tea', 'salt')"
    assert record["tags"] == {"who": "ann"}
    assert told(project)["paid tea"] == 1
    shown = pipes(project, "show").stdout
    assert f"resumes     run {record['resumed_from']}" in shown
    listed = pipes(project, "runs").stdout.splitlines()
    assert listed[0].endswith("resumes")
    assert record["resumed_from"].startswith(listed[1].split()[-1])


@pytest.mark.usefixtures("sqlite_alone")
def test_a_file_that_is_gone_is_told(project):
    run_to_its_failure(project)
    (project / "shop.py").unlink()
    with Workspace.open(project) as workspace, pytest.raises(NotFoundError, match=r"shop\.py, which declared 'shop'"):
        resume("latest", workspace=workspace)


# With the call at hand, in one process


@step(reuse="never")
def send(number: int) -> int:
    with Path(os.environ["SENT"]).open("a") as file:
        file.write(f"{number} {current_run().idempotency_key}\n")
    return number


@step
def check(number: int, limit: list[int]) -> int:
    if number > limit[0]:
        raise ValueError("too much")
    return number


@pipeline
def sending(limit: list[int]):
    return check(send(7), limit)


@pipeline
def other():
    return send(1)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("SENT", str(tmp_path / "sent"))
    with Workspace.open(tmp_path / "w") as opened:
        yield opened


def sent(folder):
    return (folder / "sent").read_text().splitlines()


def failed_run(workspace, limit=5):
    return run(sending([limit]), workspace=workspace, target="inline", observers=(), raise_on_failure=False)


def test_a_call_at_hand_may_resume_a_run_with_other_arguments(workspace, tmp_path):
    first = failed_run(workspace)
    assert first.status == "failed"
    with pytest.raises(RunFailed) as caught:
        run(sending([6]), workspace=workspace, target="inline", observers=(), resume=first.id)
    done = run(sending([7]), workspace=workspace, target="inline", observers=(), resume=caught.value.run.id)
    assert (done.output(), done.first_run_id) == (7, first.id)
    assert len(sent(tmp_path)) == 1


def test_what_the_line_did_counts_whichever_of_its_runs_is_resumed(workspace, tmp_path):
    first = failed_run(workspace)
    for _ in range(2):
        again = run(
            sending([5]), workspace=workspace, target="inline", observers=(), resume=first.id, raise_on_failure=False
        )
        assert again.resumed_from == first.id
    assert len(sent(tmp_path)) == 1


def test_an_effect_whose_output_is_gone_is_done_again_with_its_key(workspace, tmp_path):
    first = failed_run(workspace)
    (step_run,) = [one for one in first.steps if one.effect]
    assert step_run.output() == 7
    _forget_outputs(workspace)
    failed = run(
        sending([6]), workspace=workspace, target="inline", observers=(), resume=first.id, raise_on_failure=False
    )
    assert failed.status == "failed"
    before, again = sent(tmp_path)
    assert before == again


def _forget_outputs(workspace):
    """Have each effect name an output that nobody has."""
    from sqlalchemy import update

    from mlflow_pipes.digests import digest_bytes
    from mlflow_pipes.model.artifact import Leaf, to_json
    from mlflow_pipes.workspace.ledger import tables

    gone = to_json(Leaf("json", digest_bytes(b"nobody has this")))
    workspace.ledger.database.change(update(tables.attempts).values(output=gone))


def test_another_pipeline_cannot_resume_a_run_nor_anybody_one_that_succeeded(workspace):
    failed = failed_run(workspace)
    with pytest.raises(DeclarationError, match=r"is of sending, so a run of other cannot resume it"):
        run(other(), workspace=workspace, observers=(), resume=failed.id)
    done = failed_run(workspace, limit=9)
    with pytest.raises(DeclarationError, match=r"succeeded: there is nothing to resume"):
        run(sending([9]), workspace=workspace, observers=(), resume=done.id)
    with pytest.raises(NotFoundError, match="no run 'nono'"):
        run(sending([9]), workspace=workspace, observers=(), resume="nono")


def test_a_call_that_was_not_kept_is_told_with_the_remedy(workspace, tmp_path):
    failed = run(check(send(7), [5]), workspace=workspace, target="inline", observers=(), raise_on_failure=False)
    with pytest.raises(
        DeclarationError,
        match=rf"call of run {failed.id[:8]} of check is not kept: .*run\(\.\.\., resume='{failed.id[:8]}'",
    ):
        resume(failed.id, workspace=workspace)
    assert run(check(send(7), [7]), workspace=workspace, target="inline", observers=(), resume=failed.id).output() == 7
    assert len(sent(tmp_path)) == 1


def test_two_that_resume_one_run_at_the_same_moment_do_nothing_twice(project):
    run_to_its_failure(project)
    both = [
        subprocess.Popen(
            [Path(sys.executable).with_name("pipes"), "resume", "--quiet"],
            cwd=project,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told_each = [process.communicate(timeout=60)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 2], [0, 0]), told_each  # where one is so late that the other has ended, it finds all done
    assert codes == [0, 0] or re.search("resume|still under way", "".join(told_each)), told_each
    assert {text: times for text, times in told(project).items() if text != "goodbye"} == BEGUN + PAID


def test_secrets_among_arguments_are_masked_in_what_is_recorded_of_a_run(workspace, monkeypatch):
    monkeypatch.setenv("PIPES_SECRET_TOKEN", "s3cr3t-t0ken")
    monkeypatch.setattr(sys, "argv", ["flow.py", "--token", "s3cr3t-t0ken"])
    done = run(lengths("s3cr3t-t0ken"), workspace=workspace, target="inline", observers=(), raise_on_failure=False)
    assert done.parameters == {"text": "***"}
    assert done.command == "flow.py --token ***"
    assert done.step("length").parameters == {"text": "***"}
    assert done.status == "failed"
    with pytest.raises(DeclarationError, match="holds the value of a secret, which is never kept"):
        resume(done.id, workspace=workspace)


@step
def length(text: str) -> int:
    raise ValueError("no")


@pipeline
def lengths(text: str):
    return length(text)
