"""Attempts on a real Spark: the contract on a standalone cluster; on a Connect server what is done otherwise there."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from mlflow_pipes import content
from mlflow_pipes.model.attempt import AttemptFailed, AttemptSucceeded, FailureKind
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.testing.target_contract import TargetContract, alive
from mlflow_pipes.testing.target_driver import TargetDriver, assignment_of, driving, imported
from tests import spark_cluster
from tests.waiting import wait_until

if reason := spark_cluster.missing():
    pytest.skip(reason, allow_module_level=True)

from mlflow_pipes.targets.spark import SparkTarget

STARTS_WITHIN_S = 150.0  # mostly it takes ten; a machine may be busy
pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


@pytest.fixture(scope="module", params=["standalone", "connect"])
def spark(request):
    """A cluster, a server, or what needs neither."""
    running = {
        "standalone": spark_cluster.StandaloneCluster,
        "connect": spark_cluster.ConnectServer,
        "local": spark_cluster.InTheDriver,
    }[request.param]()
    yield running
    running.remove()


on_cluster, on_server = (
    pytest.mark.parametrize("spark", [kind], indirect=True, scope="module") for kind in ("standalone", "connect")
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return LocalDatastore(tmp_path_factory.mktemp("datastore"))


@pytest.fixture
def datastore(store):
    return store


@pytest.fixture(scope="module")
def kept(spark, store, tmp_path_factory):
    """A target that stays open from test to test: Spark takes seconds to start."""
    folder = tmp_path_factory.mktemp("target")
    kept = spark_cluster.KeptOpen(target_at(spark, store, folder))
    file = folder / "first_steps.py"
    file.write_text(STEPS)
    driver = TargetDriver(kept)
    kept.start(driver.report)
    driver.run(assignment_of(imported(file, "double"), store, {"x": 1}), STARTS_WITHIN_S)
    kept.close()
    yield kept
    kept.inner.close()


def target_at(spark, datastore, folder, **options):
    folders = {"checkout": folder / "checkout", "scratch": folder / "work" / "scratch"}
    return SparkTarget("cluster", datastore, **folders, master=spark.master, **{**spark.options, **options})


@on_cluster
class TestSparkTarget(TargetContract):
    @pytest.fixture(autouse=True)
    def _kept(self, kept):
        self.kept = kept

    @pytest.fixture
    def datastore(self, store):
        return store

    def make_target(self, datastore, folder):
        return self.kept


STEPS = """
import os, time
from pathlib import Path
from pyspark.sql import SparkSession

def touch_and_sleep(file, seconds):
    Path(file).write_text(str(os.getpid()))
    time.sleep(seconds)
    return os.getpid()

def touch_and_wait(file, until):
    Path(file).write_text(str(os.getpid()))
    while not Path(until).exists():
        time.sleep(0.02)

def double(x):
    return 2 * x

def total(rows: int, spark: SparkSession) -> int:
    return spark.range(rows).selectExpr("sum(id)").first()[0]

def slow_job(file, seconds: int, spark: SparkSession):
    def wait(batches):
        for batch in batches:
            Path(file).write_text(str(os.getpid()))
            time.sleep(seconds)
            yield batch
    return spark.range(0, 1, 1, 1).mapInArrow(wait, "id long").count()
"""


@pytest.fixture
def steps(tmp_path, datastore):
    file = tmp_path / f"steps_of_{abs(hash(tmp_path))}.py"
    file.write_text(STEPS)
    return lambda name, fields=None, **arguments: assignment_of(
        imported(file, name), datastore, arguments, **(fields or {})
    )


@pytest.fixture
def driver(kept):
    driver = TargetDriver(kept)
    kept.start(driver.report)
    yield driver
    kept.close()


@pytest.fixture
def pid_file(tmp_path):
    return tmp_path / "pid"


def begun(driver, assignment, file):
    driver.target.submit(assignment)
    driver.until(lambda: file.exists() and bool(file.read_text()), STARTS_WITHIN_S)
    return int(file.read_text())


def gone(pid, driver):
    driver.until(lambda: not alive(pid))
    return True


SPARK = {"wants_spark": True}


def test_a_step_with_a_session_uses_spark(driver, steps, datastore):
    answer = driver.run(steps("total", SPARK, rows=1000), STARTS_WITHIN_S)
    assert isinstance(answer, AttemptSucceeded), answer
    assert content.load(answer.output, datastore) == 499_500


def test_what_a_cancelled_step_has_under_way_at_spark_is_stopped(driver, steps, pid_file):
    assignment = steps("slow_job", SPARK, file=str(pid_file), seconds=100)
    pid = begun(driver, assignment, pid_file)
    driver.target.cancel(assignment.attempt)
    answer = driver.answer(assignment.attempt)
    assert answer.failure.kind is FailureKind.CANCELLED
    assert_stopped(answer, pid, driver, steps)


@on_server
def test_what_a_step_that_takes_too_long_has_under_way_at_spark_is_stopped(driver, steps, pid_file):
    assignment = steps("slow_job", {**SPARK, "timeout_s": 8.0}, file=str(pid_file), seconds=100)
    pid = begun(driver, assignment, pid_file)
    answer = driver.answer(assignment.attempt)
    assert answer.failure.kind is FailureKind.TIMEOUT
    assert_stopped(answer, pid, driver, steps)


def assert_stopped(answer, pid, driver, steps):
    assert "not known" not in answer.failure.message
    assert gone(pid, driver)
    assert isinstance(driver.run(steps("double", x=1)), AttemptSucceeded), "the slot is free"


def test_lines_of_many_short_attempts_and_a_cancelled_one_in_between(driver, steps):
    assignments = [steps("double", x=number) for number in range(30)]
    for assignment in assignments:
        driver.target.submit(assignment)
    driver.target.cancel(assignments[17].attempt)
    driver.until(lambda: all(driver.answers(one.attempt) for one in assignments))
    assert all(isinstance(driver.answers(one.attempt)[0], AttemptSucceeded) for one in assignments[:17])
    assert all(len(driver.answers(one.attempt)) == 1 for one in assignments)


def test_a_step_of_two_processors_has_two_tasks_to_itself(driver, steps, tmp_path):
    files = [tmp_path / name for name in ("wide", "small")]
    until = tmp_path / "until"
    wide = steps("touch_and_wait", {"cpus": 2.0}, file=str(files[0]), until=str(until))
    small = steps("touch_and_wait", file=str(files[1]), until=str(until))
    begun(driver, wide, files[0])
    driver.target.submit(small)
    driver.turn(0.5)
    until.touch()
    driver.answer(small.attempt)
    ended = [driver.answers(one.attempt)[0] for one in (wide, small)]
    assert all(isinstance(one, AttemptSucceeded) for one in ended)
    assert ended[1].started_at >= ended[0].ended_at


@on_cluster
def test_a_killed_executor_loses_its_attempt_once_and_no_other(driver, steps, tmp_path):
    files = [tmp_path / f"pid{number}" for number in range(2)]
    until = tmp_path / "until"
    sleepers = [steps("touch_and_wait", file=str(file), until=str(until)) for file in files]
    pids = [begun(driver, one, file) for one, file in zip(sleepers, files, strict=True)]
    executor = next(one for one in psutil.Process(pids[0]).parents() if "java" in one.name())
    executor.kill()
    answer = driver.answer(sleepers[0].attempt)
    assert isinstance(answer, AttemptFailed)
    assert answer.failure.kind is FailureKind.LOST
    assert gone(pids[0], driver)
    until.touch()
    assert isinstance(driver.answer(sleepers[1].attempt), AttemptSucceeded), "the other goes on"
    assert [len(driver.answers(one.attempt)) for one in sleepers] == [1, 1]
    assert isinstance(driver.run(steps("double", x=1), STARTS_WITHIN_S), AttemptSucceeded)


@on_server
def test_executors_without_our_disk_are_sent_what_they_need(spark, steps, datastore, tmp_path):
    """As if on another machine: the datastore's folder is not where the executors look."""
    hidden = HiddenDatastore(datastore.folder)
    with driving(target_at(spark, hidden, tmp_path)) as driver:
        answer = driver.run(steps("double", x="ab" * 100_000), STARTS_WITHIN_S)
        assert isinstance(answer, AttemptSucceeded), answer
        assert content.load(answer.output, datastore) == "ab" * 200_000


class HiddenDatastore(LocalDatastore):
    """A store that executors have in a folder of their own, and do not find where it is here."""

    def __reduce__(self):
        return LocalDatastore, (f"{self.folder}-is-not-here",)


def newest_driver():
    children = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return max((one for one in children if "spark.driver" in str(one.cmdline())), key=psutil.Process.create_time)


@on_cluster
def test_a_killed_driver_loses_what_runs_another_does_the_rest_and_closing_leaves_nothing(
    kept, driver, steps, tmp_path, pid_file
):
    """The last that uses this target: it is closed."""
    assignment = steps("touch_and_sleep", file=str(pid_file), seconds=60)
    pid = begun(driver, assignment, pid_file)
    session = steps("slow_job", SPARK, file=str(tmp_path / "session"), seconds=60)
    begun(driver, session, tmp_path / "session")
    next(one for one in newest_driver().children() if "java" in one.name()).kill()
    answers = [driver.answer(one.attempt) for one in (assignment, session)]
    assert [one.failure.kind for one in answers] == [FailureKind.LOST] * 2, answers
    assert gone(pid, driver)

    pid_file.unlink()
    assignment = steps("touch_and_sleep", file=str(pid_file), seconds=60)
    pid = begun(driver, assignment, pid_file)
    theirs = [newest_driver(), *newest_driver().children(recursive=True)]
    kept.inner.close()
    answer = driver.answer(assignment.attempt)
    assert answer.failure.kind is FailureKind.CANCELLED
    assert "not known" not in answer.failure.message
    assert not alive(pid)
    assert [one for one in theirs if alive(one.pid)] == []


ORCHESTRATOR = """
import sys, time
from pathlib import Path
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.spark import SparkTarget
from mlflow_pipes.testing.target_driver import assignment_of, imported

if __name__ == "__main__":
    folder, master, conf, steps, pid_file = Path(sys.argv[1]), sys.argv[2], eval(sys.argv[3]), *map(Path, sys.argv[4:])
    store = LocalDatastore(folder / "store")
    target = SparkTarget("cluster", store, checkout=folder / "checkout", scratch=folder / "w" / "s", master=master, **conf)
    target.start(print)
    sleeper = {"file": str(pid_file), "seconds": 60}
    target.submit(assignment_of(imported(steps, "touch_and_sleep"), store, sleeper))
    time.sleep(60)
"""


@pytest.mark.parametrize("spark", ["connect", "local"], indirect=True, scope="module")
def test_a_killed_orchestrator_leaves_nothing_behind(spark, tmp_path, pid_file):
    """That executors elsewhere end with their driver is shown above, where a driver is killed."""
    script, steps = tmp_path / "orchestrator.py", tmp_path / "their_steps.py"
    script.write_text(textwrap.dedent(ORCHESTRATOR))
    steps.write_text(STEPS)
    arguments = [str(tmp_path), spark.master, repr(spark.options), str(steps), str(pid_file)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, str(script), *arguments], stdout=log, stderr=log)
    wait_until(lambda: pid_file.exists() and bool(pid_file.read_text()), (tmp_path / "log").read_text, STARTS_WITHIN_S)
    theirs = psutil.Process(process.pid).children(recursive=True)
    pid = int(pid_file.read_text())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not alive(pid) and not any(alive(one.pid) for one in theirs), lambda: str(theirs))
    wait_until(lambda: not list((tmp_path / "w").glob("spark-*")), lambda: "the driver's files")


@pytest.mark.parametrize("master", ["spark://127.0.0.1:1", "sc://127.0.0.1:1"])
def test_a_master_that_is_not_there_is_named_and_not_waited_for_again(steps, datastore, tmp_path, master):
    nowhere = type("Nowhere", (), {"master": master, "options": {"connect_timeout_s": 60.0}})
    with driving(target_at(nowhere, datastore, tmp_path)) as driver:
        first = driver.run(steps("double", x=1), STARTS_WITHIN_S)
        began = time.monotonic()
        second = driver.run(steps("double", x=2), STARTS_WITHIN_S)
        assert time.monotonic() - began < 20  # it would wait for a minute
    for answer in (first, second):
        assert answer.failure.kind is FailureKind.WORLD
        assert master in answer.failure.message
        assert "nobody answers there" in answer.failure.message


@on_server
def test_executors_of_another_python_are_named(spark, steps, datastore, tmp_path):
    other = tmp_path / "python9"
    with driving(target_at(spark, datastore, tmp_path, python=str(other))) as driver:
        answer = driver.run(steps("double", x=1), STARTS_WITHIN_S)
    assert answer.failure.kind is FailureKind.WORLD
    assert "name one that they have by `python`" in answer.failure.message


@on_server
def test_an_attempt_for_which_there_is_no_room_fails_with_what_is_lacking(spark, steps, datastore, tmp_path):
    with driving(target_at(spark, datastore, tmp_path, no_workers_timeout_s=1.0, tasks=1)) as driver:
        answer = driver.run(steps("double", {"cpus": 64.0}, x=1), STARTS_WITHIN_S)
    assert answer.failure.kind is FailureKind.WORLD
    for text in ("cpus=64", "no_workers_timeout=1 s"):
        assert text in answer.failure.message
