"""Attempts on a real Dask cluster of several processes: the contract, and what clusters do to those who use them."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from mlflow_pipes.model.attempt import AttemptFailed, AttemptSucceeded, CapacityChanged, FailureKind
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.testing.target_contract import TargetContract, alive
from mlflow_pipes.testing.target_driver import assignment_of, driving, imported

pytest.importorskip("distributed")
from distributed import LocalCluster, Security

from mlflow_pipes.targets.dask import DaskTarget
from mlflow_pipes.targets.dask.connection import Connection

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask")
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        local_directory=str(folder),
        silence_logs=50,
    ) as cluster:
        yield cluster


@pytest.fixture
def datastore(tmp_path):
    return LocalDatastore(tmp_path / "datastore")


def target_at(address, datastore, folder, **options):
    return DaskTarget(
        "cluster", datastore, checkout=folder / "checkout", scratch=folder / "scratch", address=address, **options
    )


class TestDaskTarget(TargetContract):
    @pytest.fixture(autouse=True)
    def _cluster(self, cluster):
        self.address = cluster.scheduler_address

    @pytest.fixture
    def datastore(self, tmp_path):
        return LocalDatastore(tmp_path / "datastore")

    def make_target(self, datastore, folder):
        return target_at(self.address, datastore, folder)


STEPS = """
import os, time
from pathlib import Path

def touch_and_sleep(file, seconds):
    Path(file).write_text(str(os.getpid()))
    time.sleep(seconds)
    return os.getpid()

def double(x):
    print("doubling", flush=True)
    return 2 * x

def say_and_sleep(seconds):
    print("begun", flush=True)
    time.sleep(seconds)
"""


@pytest.fixture
def steps(tmp_path):
    file = tmp_path / "steps_of_dask_test.py"
    file.write_text(STEPS)
    return lambda name, datastore, fields=None, **arguments: assignment_of(
        imported(file, name), datastore, arguments, **(fields or {})
    )


@pytest.fixture
def pid_file(tmp_path):
    return tmp_path / "pid"


def begun(driver, assignment, file):
    driver.target.submit(assignment)
    driver.until(lambda: file.exists() and bool(file.read_text()), 60)  # processes of a cluster start on a busy machine
    return int(file.read_text())


def worker_of(driver, assignment):
    return driver.target._tasks.get(assignment.attempt).worker


def gone(pid, driver):
    driver.until(lambda: not alive(pid))
    return True


def test_a_killed_worker_loses_its_attempt_once_and_its_place_is_taken(cluster, datastore, tmp_path, steps, pid_file):
    with driving(target_at(cluster.scheduler_address, datastore, tmp_path)) as driver:
        assignment = steps("touch_and_sleep", datastore, file=str(pid_file), seconds=60)
        pid = begun(driver, assignment, pid_file)
        driver.until(lambda: worker_of(driver, assignment) is not None)
        address = worker_of(driver, assignment)
        client = driver.target._connection.client
        os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
        answer = driver.answer(assignment.attempt)
        assert isinstance(answer, AttemptFailed)
        assert answer.failure.kind is FailureKind.LOST
        assert address in answer.failure.message
        assert gone(pid, driver)
        assert isinstance(driver.run(steps("double", datastore, x=1)), AttemptSucceeded)
        client.wait_for_workers(2, timeout=60)
        assert len(driver.answers(assignment.attempt)) == 1


def test_cancelling_frees_the_slot(cluster, datastore, tmp_path, steps, pid_file):
    with driving(target_at(cluster.scheduler_address, datastore, tmp_path)) as driver:
        files = [tmp_path / f"pid{number}" for number in range(2)]
        sleepers = [steps("touch_and_sleep", datastore, file=str(file), seconds=60) for file in files]
        queued = steps("touch_and_sleep", datastore, file=str(pid_file), seconds=60)
        pids = [begun(driver, sleeper, file) for sleeper, file in zip(sleepers, files, strict=True)]
        driver.target.submit(queued)
        driver.until(lambda: driver.target._tasks.get(queued.attempt).future is not None)
        for assignment in (queued, *sleepers):
            driver.target.cancel(assignment.attempt)
        answers = [driver.answer(assignment.attempt, 10) for assignment in (queued, *sleepers)]
        assert [answer.failure.kind for answer in answers] == [FailureKind.CANCELLED] * 3
        assert not any(map(alive, pids))
        assert not pid_file.exists()
        assert isinstance(driver.run(steps("double", datastore, x=1), 10), AttemptSucceeded)


def test_a_scheduler_keeps_nothing_of_a_target_that_is_closed(cluster, datastore, tmp_path, steps):
    with driving(target_at(cluster.scheduler_address, datastore, tmp_path)) as driver:
        driver.run(steps("double", datastore, x=1))
        topic = driver.target._connection.topic
        assert len(cluster.scheduler.get_events(topic)) > 0
    assert len(cluster.scheduler.get_events(topic)) == 0


def test_lines_arrive_while_the_step_runs(cluster, datastore, tmp_path, steps):
    with driving(target_at(cluster.scheduler_address, datastore, tmp_path)) as driver:
        driver.run(steps("double", datastore, x=1))  # its processes are there
        assignment = steps("say_and_sleep", datastore, seconds=60)
        driver.target.submit(assignment)
        driver.until(lambda: driver.lines(assignment.attempt, "stdout") == ["begun"])
        assert not driver.answers(assignment.attempt)
        driver.target.cancel(assignment.attempt)
        driver.answer(assignment.attempt)


def test_a_step_that_no_worker_fits_fails_with_what_it_asks_and_what_there_is(cluster, datastore, tmp_path, steps):
    with driving(target_at(cluster.scheduler_address, datastore, tmp_path, no_workers_timeout_s=1.0)) as driver:
        assignment = steps("double", datastore, {"cpus": 64.0}, x=1)
        answer = driver.run(assignment, 10)
        retry = driver.run(replace(assignment, attempt=assignment.attempt._replace(number=2)), 10)
    assert answer.ended_at - answer.started_at >= 1.0
    assert retry.ended_at - retry.started_at < 0.9, "it does not wait anew"
    assert answer.failure.kind is FailureKind.WORLD
    for text in ("cpus=64", "largest of 2 workers has 1 threads", "no_workers_timeout=1 s"):
        assert text in answer.failure.message


def test_a_scheduler_that_is_not_there_is_named_and_not_waited_for_again(datastore, tmp_path, steps):
    target = target_at("tcp://127.0.0.1:1", datastore, tmp_path, connect_timeout_s=0.5)
    with driving(target) as driver:
        answers = [driver.run(steps("double", datastore, x=number), 10) for number in range(5)]
    assert {answer.failure.kind for answer in answers} == {FailureKind.WORLD}
    assert "cannot connect to the Dask scheduler at tcp://127.0.0.1:1" in answers[-1].failure.message
    assert answers[-1].ended_at - answers[1].ended_at < 2


def test_a_cluster_class_that_is_not_there_is_named(datastore, tmp_path, steps):
    with driving(target_at("", datastore, tmp_path, cluster="dask_moon.Cluster")) as driver:
        answer = driver.run(steps("double", datastore, x=1))
    assert "no Dask cluster class dask_moon.Cluster" in answer.failure.message


class DaskProcesses:
    """A scheduler that has not our code, and workers with nannies, as processes of their own."""

    def __init__(self, folder):
        self._folder = folder
        self._running = []
        self.port = 0

    def start(self, *arguments):
        environ = {**os.environ, "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "100"}
        absent = "import sys; sys.modules['mlflow_pipes'] = None; " if arguments[0] == "scheduler" else ""
        command = [sys.executable, "-c", f"{absent}from dask.__main__ import main; main()", *arguments]
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, env=environ)
        self._running.append(process)
        return process

    def scheduler(self):
        self.port = self.port or free_port()
        arguments = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--no-show")
        return self.start("scheduler", *arguments)

    def worker(self):
        arguments = ("--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--local-directory", str(self._folder))
        return self.start("worker", self.address, *arguments)

    @property
    def address(self):
        return f"tcp://127.0.0.1:{self.port}"

    def kill(self):
        for process in self._running:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def processes(tmp_path):
    running = DaskProcesses(tmp_path)
    yield running
    running.kill()


def test_a_killed_nanny_and_a_restarted_scheduler_lose_attempts_and_never_hang(
    processes, datastore, tmp_path, steps, pid_file, caplog
):
    scheduler = processes.scheduler()
    worker = processes.worker()
    with driving(target_at(processes.address, datastore, tmp_path, connect_timeout_s=60)) as driver:
        first = steps("touch_and_sleep", datastore, file=str(pid_file), seconds=60)
        pid = begun(driver, first, pid_file)
        worker.kill()  # the nanny; what it watches over ends with it
        answer = driver.answer(first.attempt)
        assert answer.failure.kind is FailureKind.LOST
        assert gone(pid, driver)

        processes.worker()
        pid_file.unlink()
        second = steps("touch_and_sleep", datastore, file=str(pid_file), seconds=60)
        pid = begun(driver, second, pid_file)
        scheduler.kill()
        scheduler.wait()
        answer = driver.answer(second.attempt)
        assert answer.failure.kind is FailureKind.LOST
        assert "scheduler" in answer.failure.message

        processes.scheduler()
        processes.worker()
        assert isinstance(driver.run(steps("double", datastore, x=1)), AttemptSucceeded)
        assert [len(driver.answers(one.attempt)) for one in (first, second)] == [1, 1]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_who_asks_for_the_workers_does_not_wait_for_a_scheduler_that_is_gone(processes, datastore, tmp_path):
    """Dask's client itself tries to reach it for half a minute."""
    scheduler = processes.scheduler()
    processes.worker()
    plan = target_at(processes.address, datastore, tmp_path, connect_timeout_s=60)._plan
    connection = Connection(plan, lambda *_: None, lambda _: None)
    try:
        connection.client.wait_for_workers(1, timeout=60)
        known = connection.members()
        assert len(known) == 1
        scheduler.kill()
        scheduler.wait()
        found = []
        asking = threading.Thread(target=lambda: found.append(connection.members()), daemon=True)
        asking.start()
        asking.join(15)
        assert found == [known]
        assert connection.is_lost
    finally:
        connection.close()


def test_what_waits_for_a_larger_worker_is_answered_when_the_scheduler_goes_away(
    processes, datastore, tmp_path, steps, pid_file
):
    scheduler = processes.scheduler()
    processes.worker()
    with driving(target_at(processes.address, datastore, tmp_path, connect_timeout_s=60)) as driver:
        sleeper = steps("touch_and_sleep", datastore, file=str(pid_file), seconds=60)
        begun(driver, sleeper, pid_file)
        large = steps("double", datastore, {"cpus": 2.0}, x=1)
        driver.target.submit(large)
        driver.until(lambda: driver.target._held)
        driver.target._plan = replace(driver.target._plan, connect_timeout_s=0.5)
        scheduler.kill()
        assert driver.answer(sleeper.attempt).failure.kind is FailureKind.LOST
        answer = driver.answer(large.attempt)
        assert answer.failure.kind is FailureKind.WORLD
        assert "cannot connect to the Dask scheduler" in answer.failure.message


def test_who_cancels_need_not_wait_for_a_scheduler_that_is_not_there(datastore, tmp_path, steps):
    began = time.monotonic()
    with driving(target_at("tcp://127.0.0.1:1", datastore, tmp_path, connect_timeout_s=60)) as driver:
        assignment = steps("double", datastore, x=1)
        driver.target.submit(assignment)
        driver.until(lambda: not driver.target._inbox or driver.target._something.is_set())
        driver.target.cancel(assignment.attempt)
        assert driver.answer(assignment.attempt).failure.kind is FailureKind.CANCELLED
    assert time.monotonic() - began < 30  # it would go on trying for a minute


def test_capacity_follows_workers_that_come_and_go(processes, datastore, tmp_path, steps):
    processes.scheduler()
    processes.worker()
    with driving(target_at(processes.address, datastore, tmp_path, connect_timeout_s=60)) as driver:
        sleeper = steps("say_and_sleep", datastore, seconds=60)
        driver.target.submit(sleeper)
        driver.until(lambda: driver.started(sleeper.attempt), 60)
        before = driver.target.capacity().slots
        second = processes.worker()
        driver.until(lambda: driver.target.capacity().slots == 2 * before)
        second.terminate()
        driver.until(lambda: driver.target.capacity().slots == before)
        told = [event.capacity.slots for event in driver.events if isinstance(event, CapacityChanged)]
        assert told[-2:] == [2 * before, before]
        driver.target.cancel(sleeper.attempt)
        driver.answer(sleeper.attempt)


def test_of_short_attempts_that_go_together_each_is_answered_and_cancelled_by_itself(
    cluster, datastore, tmp_path, steps
):
    with driving(target_at(cluster.scheduler_address, datastore, tmp_path)) as driver:
        for number in range(6):  # until it is known that they are short
            driver.run(steps("double", datastore, x=number))
        assignments = [steps("double", datastore, x=number) for number in range(40)]
        for assignment in assignments:
            driver.target.submit(assignment)
        for assignment in assignments[::2]:
            driver.target.cancel(assignment.attempt)
        driver.until(lambda: all(driver.answers(assignment.attempt) for assignment in assignments))
        for position, assignment in enumerate(assignments):
            (answer,) = driver.answers(assignment.attempt)
            if isinstance(answer, AttemptFailed):
                assert position % 2 == 0
                assert answer.failure.kind is FailureKind.CANCELLED
        assert isinstance(driver.run(steps("double", datastore, x=1)), AttemptSucceeded)


def test_a_worker_that_does_not_answer_any_more_does_not_hold_up_a_cancel(
    processes, datastore, tmp_path, steps, pid_file
):
    processes.scheduler()
    processes.worker()
    target = target_at(processes.address, datastore, tmp_path, connect_timeout_s=60, cancel_patience_s=1.0)
    with driving(target) as driver:
        assignment = steps("touch_and_sleep", datastore, file=str(pid_file), seconds=60)
        pid = begun(driver, assignment, pid_file)
        client = target._connection.client
        (worker,) = client.run(os.getpid).values()
        os.kill(worker, signal.SIGSTOP)
        try:
            driver.target.cancel(assignment.attempt)
            answer = driver.answer(assignment.attempt, 25)
        finally:
            os.kill(worker, signal.SIGCONT)
        assert answer.failure.kind is FailureKind.CANCELLED
        assert "may still be at it" in answer.failure.message
        assert gone(pid, driver)


def test_a_cluster_made_for_the_run_grows_with_the_work_and_is_gone_after_it(datastore, tmp_path, steps):
    options = {"maximum": 1, "arguments": {"threads_per_worker": 1, "silence_logs": 50}}
    with driving(target_at("", datastore, tmp_path, **options)) as driver:
        answer = driver.run(steps("double", datastore, x=1))
        assert isinstance(answer, AttemptSucceeded)
        (worker,) = driver.target._connection.client.run(os.getpid).values()
    assert not alive(worker)


def test_an_encrypted_scheduler_is_connected_to(datastore, tmp_path, steps):
    pytest.importorskip("cryptography")
    certificates = Security.temporary()
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", security=certificates) as secured:
        pem = {
            "tls_ca_file": certificates.tls_ca_file,
            "tls_client_cert": certificates.tls_client_cert,
            "tls_client_key": certificates.tls_client_key,
        }
        files = {}
        for name, text in pem.items():
            files[name] = str(tmp_path / name)
            (tmp_path / name).write_text(text)
        options = {"security": {**files, "require_encryption": True}}
        assert secured.scheduler_address.startswith("tls://")
        with driving(target_at(secured.scheduler_address, datastore, tmp_path, **options)) as driver:
            assert isinstance(driver.run(steps("double", datastore, x=1)), AttemptSucceeded)
