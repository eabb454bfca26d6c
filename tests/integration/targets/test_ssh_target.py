"""Attempts on another machine by a real ssh server: the contract, and what becomes of them when things break."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

from mlflow_pipes import Environment, content
from mlflow_pipes.environments import Environments
from mlflow_pipes.model.attempt import AttemptStarted, AttemptSucceeded, CapacityChanged, FailureKind
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.ssh import SshTarget
from mlflow_pipes.testing.target_contract import TargetContract, alive
from mlflow_pipes.testing.target_driver import TargetDriver, assignment_of, driving, imported
from tests import ssh_server
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server():
    if reason := ssh_server.missing():
        pytest.skip(reason)
    server = ssh_server.Server()
    # An interpreter without any package: all that stations need must come by the target.
    venv.create(server.folder / "bare", with_pip=False)
    yield server
    server.remove()


@pytest.fixture
def datastore(tmp_path):
    return LocalDatastore(tmp_path / "datastore")


def target_at(server, datastore, tmp_path, **options):
    given = {"workers": 2, "python": str(server.folder / "bare" / "bin" / "python"), **options}
    places = {"checkout": tmp_path / "checkout", "scratch": tmp_path / "scratch"}
    return SshTarget("vm", datastore, **places, **server.options(**given))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return LocalDatastore(tmp_path_factory.mktemp("contract") / "datastore")


@pytest.fixture(scope="module")
def shared(server, store, tmp_path_factory):
    targets, receivers = [], []

    def started():
        if not targets or not targets[-1]._is_open:
            targets.append(target_at(server, store, tmp_path_factory.mktemp("contract")))
            targets[-1].start(lambda event: receivers[-1](event))  # noqa: PLW0108 - whoever is the last then
        return targets[-1]

    yield started, receivers
    targets[-1].close()


@pytest.fixture
def shared_driver(shared):
    """Drives a target that is connected already: a connection for each test would take longer than most of them."""
    started, receivers = shared
    driver = TargetDriver(started())
    receivers.append(driver.report)
    return driver


class TestSshTarget(TargetContract):
    @pytest.fixture
    def driver(self, shared_driver):
        return shared_driver

    @pytest.fixture
    def datastore(self, store):
        return store

    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.server = server

    def make_target(self, datastore, folder):
        return target_at(self.server, datastore, folder)


STEPS = """
import os, time
from pathlib import Path

def double(x):
    return 2 * x

def touch_and_sleep(file, seconds):
    Path(file).write_text(str(os.getpid()))
    time.sleep(seconds)

def count_until(file, seconds):
    for number in range(10_000):
        print(number, flush=True)
        if Path(file).exists():
            return number
        time.sleep(seconds)

def prefix(x):
    import sys
    return sys.prefix

def touch(blob, file):
    Path(file).write_text("")

def size(blob):
    return len(blob)

"""


@pytest.fixture
def steps(tmp_path, datastore):
    file = tmp_path / "steps_of_ssh_test.py"
    file.write_text(STEPS)
    return lambda name, fields=None, **arguments: assignment_of(
        imported(file, name), datastore, arguments, **(fields or {})
    )


@pytest.fixture
def shared_steps(tmp_path, store):
    file = tmp_path / "steps_of_ssh_test.py"
    file.write_text(STEPS)
    return lambda name, fields=None, **arguments: assignment_of(
        imported(file, name), store, arguments, **(fields or {})
    )


@pytest.fixture
def pid_file(tmp_path):
    return tmp_path / "pid"


def begun(driver, assignment, file):
    driver.target.submit(assignment)
    driver.until(lambda: file.exists() and bool(file.read_text()))
    return int(file.read_text())


def sessions(server):
    folder = server.folder / "there" / "sessions"
    return set(folder.iterdir()) if folder.exists() else set()


def cut_client(driver, server):
    os.kill(driver.target._session._connection._process.pid, signal.SIGKILL)


def cut_server(driver, server):
    for pid in server.connections():
        for one in (*children(pid), pid):
            with contextlib.suppress(ProcessLookupError):  # it ended with its child
                os.kill(one, signal.SIGKILL)


def children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- connections that break ---


def test_an_attempt_goes_on_while_the_connection_is_made_again_and_nothing_is_told_twice(
    server, datastore, tmp_path, steps
):
    with driving(target_at(server, datastore, tmp_path, reconnect_s=20)) as driver:
        stop = tmp_path / "stop"
        assignment = steps("count_until", file=str(stop), seconds=0.002)
        driver.target.submit(assignment)
        driver.until(lambda: len(driver.lines(assignment.attempt, "stdout")) > 10)
        cut_server(driver, server)
        seen = len(driver.lines(assignment.attempt, "stdout"))
        driver.until(lambda: len(driver.lines(assignment.attempt, "stdout")) > seen + 100)
        stop.write_text("")
        answer = driver.answer(assignment.attempt)
        assert isinstance(answer, AttemptSucceeded)
        last = content.load(answer.output, datastore)
        assert driver.lines(assignment.attempt, "stdout") == [str(number) for number in range(last + 1)]
        assert sum(isinstance(event, AttemptStarted) for event in driver.events) == 1


def test_what_ends_or_is_cancelled_without_a_connection_is_told_with_the_next_one(
    server, datastore, tmp_path, steps, pid_file
):
    with driving(target_at(server, datastore, tmp_path, reconnect_s=20)) as driver:
        stop = tmp_path / "stop"
        ends = steps("count_until", file=str(stop), seconds=0.01)
        sleeps = steps("touch_and_sleep", file=str(pid_file), seconds=60)
        driver.target.submit(ends)
        pid = begun(driver, sleeps, pid_file)
        server.stop()
        cut_client(driver, server)
        driver.target.cancel(sleeps.attempt)
        stop.write_text("")
        driver.turn(0.3)
        assert not driver.answers()
        server.start()
        assert isinstance(driver.answer(ends.attempt), AttemptSucceeded)
        assert driver.answer(sleeps.attempt).failure.kind is FailureKind.CANCELLED
        assert not alive(pid)


def test_a_machine_that_stays_away_loses_its_attempts_once_their_work_has_ended(
    server, datastore, tmp_path, steps, pid_file
):
    with driving(target_at(server, datastore, tmp_path, reconnect_s=0.5)) as driver:
        assignment = steps("touch_and_sleep", file=str(pid_file), seconds=60)
        pid = begun(driver, assignment, pid_file)
        server.stop()
        try:
            cut_client(driver, server)
            answer = driver.answer(assignment.attempt)
        finally:
            server.start()
        assert answer.failure.kind is FailureKind.LOST
        assert "did not come back within 0.5 s" in answer.failure.message
        assert not alive(pid)
        assert isinstance(driver.run(steps("double", x=1)), AttemptSucceeded)
        assert len(driver.answers(assignment.attempt)) == 1


def test_a_killed_station_loses_its_attempts_at_once_and_the_next_has_another(
    server, datastore, tmp_path, steps, pid_file
):
    with driving(target_at(server, datastore, tmp_path)) as driver:
        assignment = steps("touch_and_sleep", file=str(pid_file), seconds=60)
        pid = begun(driver, assignment, pid_file)
        os.kill(station_of(pid), signal.SIGKILL)
        answer = driver.answer(assignment.attempt, 20)
        assert answer.failure.kind is FailureKind.LOST
        assert "the station" in answer.failure.message
        driver.until(lambda: not alive(pid))
        assert isinstance(driver.run(steps("double", x=1)), AttemptSucceeded)


def station_of(pid):
    """Return the process that serves the session of a worker."""
    while b"targets.station.serve" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def test_when_the_orchestrator_is_killed_its_work_ends_after_the_same_time(server, datastore, tmp_path, pid_file):
    (tmp_path / "steps_of_ssh_test.py").write_text(STEPS)
    before = sessions(server)
    program = f"""
        import sys, time
        sys.path[:0] = {sys.path!r}
        from pathlib import Path
        from mlflow_pipes.stores.local import LocalDatastore
        from mlflow_pipes.targets.ssh import SshTarget
        from mlflow_pipes.testing.target_driver import assignment_of, imported
        folder = Path({str(tmp_path)!r})
        store = LocalDatastore(folder / "datastore")
        options = {server.options(reconnect_s=0.5, python=sys.executable)!r}
        target = SshTarget("vm", store, checkout=folder / "c", scratch=folder / "s", **options)
        target.start(lambda event: None)
        step = imported(folder / "steps_of_ssh_test.py", "touch_and_sleep")
        target.submit(assignment_of(step, store, {{"file": {str(pid_file)!r}, "seconds": 60}}))
        time.sleep(60)
    """
    orchestrator = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    try:
        wait_until(lambda: pid_file.exists() and pid_file.read_text())
    finally:
        orchestrator.kill()
        orchestrator.wait()
    wait_until(lambda: not alive(int(pid_file.read_text())))
    wait_until(lambda: not sessions(server) - before)


# --- blobs ---


def test_inputs_and_code_are_sent_once_and_outputs_come_back(server, datastore, tmp_path, steps):
    blob = os.urandom(3_000_000)
    there = LocalDatastore(server.folder / "there" / "store")
    states = []
    for _ in range(2):
        with driving(target_at(server, datastore, tmp_path)) as driver:
            for _ in range(2):
                answer = driver.run(assignment := steps("size", blob=blob))
                assert content.load(answer.output, datastore) == 3_000_000
                needed = content.blobs_of(assignment.arguments["blob"], datastore)
                states.append([there.path(digest).stat() for digest in needed])
    assert len({(state.st_ino, state.st_mtime_ns) for states_of in states for state in states_of}) == 1


def test_a_cancelled_attempt_does_not_wait_for_its_inputs(shared_driver, shared_steps, tmp_path):
    shared_driver.run(shared_steps("double", x=1))
    touches = shared_steps("touch", blob=os.urandom(150_000_000), file=str(tmp_path / "touched"))
    shared_driver.target.submit(touches)
    shared_driver.until(lambda: shared_driver.target._tasks[touches.attempt].is_sent)
    shared_driver.target.cancel(touches.attempt)
    assert shared_driver.answer(touches.attempt).failure.message == "cancelled before it began"
    assert isinstance(shared_driver.run(shared_steps("double", x=2)), AttemptSucceeded)
    assert not (tmp_path / "touched").exists()


def test_an_input_that_was_spoilt_there_is_sent_again(server, datastore, tmp_path, steps):
    blob = os.urandom(200_000)
    with driving(target_at(server, datastore, tmp_path, workers=1)) as driver:
        assignment = steps("size", blob=blob)
        driver.run(assignment)
        digest = next(iter(content.blobs_of(assignment.arguments["blob"], datastore)))
        spoilt = LocalDatastore(server.folder / "there" / "store").path(digest)
        spoilt.chmod(0o644)
        spoilt.write_bytes(bytes(200_000))
        answer = driver.run(steps("size", blob=blob))
        assert content.load(answer.output, datastore) == 200_000
        assert len(driver.answers()) == 2


def test_lines_arrive_while_the_step_runs(shared_driver, tmp_path, shared_steps):
    shared_driver.run(shared_steps("double", x=1))  # its processes are there
    assignment = shared_steps("count_until", file=str(tmp_path / "never"), seconds=60)
    shared_driver.target.submit(assignment)
    shared_driver.until(lambda: shared_driver.lines(assignment.attempt, "stdout") == ["0"])
    assert not shared_driver.answers(assignment.attempt)
    shared_driver.target.cancel(assignment.attempt)
    shared_driver.answer(assignment.attempt)


def test_attempts_run_in_their_environments_as_these_are_there(server, shared_driver, store, tmp_path, shared_steps):
    declared = Environment(interpreter=sys.executable, name="own")
    resolved = Environments(tmp_path / "known", tmp_path).resolve(declared)
    inside = shared_driver.run(shared_steps("prefix", {"environment": resolved}, x=1))
    outside = shared_driver.run(shared_steps("prefix", x=1))
    assert content.load(inside.output, store) == sys.prefix
    assert content.load(outside.output, store) == str(server.folder / "bare")


def test_nothing_of_a_session_stays_when_its_target_is_closed(server, datastore, tmp_path, steps, pid_file):
    before = sessions(server)
    with driving(target_at(server, datastore, tmp_path)) as driver:
        driver.run(steps("touch_and_sleep", file=str(pid_file), seconds=0))
        assert len(sessions(server) - before) == 1
        worker = int(pid_file.read_text())
        station = station_of(worker)
    wait_until(lambda: not sessions(server) - before)
    wait_until(lambda: not alive(station) and not alive(worker))


def test_a_target_knows_what_the_machine_has_once_it_was_there(server, datastore, tmp_path, steps):
    with driving(target_at(server, datastore, tmp_path, workers=None)) as driver:
        before = driver.target.capacity()
        driver.run(steps("double", x=1))
        known = driver.target.capacity()
        assert isinstance(driver.events[0], CapacityChanged)
    assert before.slots == 1
    assert known.memory_bytes > 0
    assert known.cpus == known.slots >= 1
    assert target_at(server, datastore, tmp_path, workers=None).capacity() == known


# --- machines that cannot be used ---


def failure_at(server, datastore, tmp_path, steps, **options):
    with driving(target_at(server, datastore, tmp_path, **options)) as driver:
        failures = [driver.run(steps("double", x=number)).failure for number in range(2)]
    assert {failure.kind for failure in failures} == {FailureKind.WORLD}
    assert failures[0] == failures[1]
    return failures[0].message


def test_an_unknown_host_key_is_refused_with_what_to_do(server, datastore, tmp_path, steps):
    (tmp_path / "known_hosts").write_text("")
    message = failure_at(server, datastore, tmp_path, steps, known_hosts=str(tmp_path / "known_hosts"))
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in message
    assert (tmp_path / "known_hosts").read_text() == ""


def test_a_changed_host_key_is_refused_as_what_it_may_be(server, datastore, tmp_path, steps):
    (tmp_path / "known_hosts").write_text(server.line_of(server.folder / "user_key.pub"))
    message = failure_at(server, datastore, tmp_path, steps, known_hosts=str(tmp_path / "known_hosts"))
    assert "another machine that poses as it" in message
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}'" in message


def test_a_key_that_the_machine_does_not_know_is_named(server, datastore, tmp_path, steps):
    other = server.folder / "host_key"
    message = failure_at(server, datastore, tmp_path, steps, key=str(other))
    assert f"does not let us in with the key {other}" in message


def test_a_machine_without_the_python_is_told_so(server, datastore, tmp_path, steps):
    message = failure_at(server, datastore, tmp_path, steps, python="/opt/no/python9")
    assert "there is no Python '/opt/no/python9'" in message


def test_a_python_that_is_too_old_is_told_so(server, datastore, tmp_path, steps):
    old = tmp_path / "old python"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 6, 9); $2"\n')
    old.chmod(0o755)
    message = failure_at(server, datastore, tmp_path, steps, python=str(old))
    assert "is Python 3.6, and 3.11 or newer is needed" in message


def test_a_folder_that_cannot_be_made_is_named(server, datastore, tmp_path, steps):
    (tmp_path / "file").write_text("")
    message = failure_at(server, datastore, tmp_path, steps, folder=str(tmp_path / "file" / "there"))
    assert f"cannot use {tmp_path}/file/there: " in message


def test_a_machine_that_is_not_there_is_named(server, datastore, tmp_path, steps):
    message = failure_at(server, datastore, tmp_path, steps, port=1)
    assert "cannot use 127.0.0.1:1 by ssh" in message
    assert "Connection refused" in message


def test_greetings_of_a_shell_do_no_harm(server, datastore, tmp_path, steps):
    polite = tmp_path / "polite"
    polite.write_text(f'#!/bin/sh\nprintf "Welcome!\\nLast login: "\nexec {shlex.quote(sys.executable)} "$@"\n')
    polite.chmod(0o755)
    with driving(target_at(server, datastore, tmp_path, python=str(polite))) as driver:
        assert isinstance(driver.run(steps("double", x=1)), AttemptSucceeded)


# --- a network of its own ---


@pytest.fixture
def far_server():
    """A server in a network namespace, with an address of its own at the other end of a cable."""
    if reason := ssh_server.missing():
        pytest.skip(reason)
    network = ssh_server.Network()
    if network.reason:
        pytest.skip(network.reason)
    try:
        server = ssh_server.Server(network.address, inside=network.inside)
        server.network = network
        yield server
        server.remove()
    finally:
        network.remove()


def test_a_machine_behind_a_cable_that_is_pulled_has_ended_its_work_when_that_is_told_as_lost(
    far_server, datastore, tmp_path, steps, pid_file
):
    with driving(target_at(far_server, datastore, tmp_path, python=sys.executable, reconnect_s=0.5)) as driver:
        assignment = steps("touch_and_sleep", file=str(pid_file), seconds=60)
        pid = begun(driver, assignment, pid_file)
        far_server.network.pull()
        answer = driver.answer(assignment.attempt)
        assert answer.failure.kind is FailureKind.LOST
        assert "nothing was heard" in answer.failure.message
        assert not alive(pid)
        far_server.network.plug()
        assert isinstance(driver.run(steps("double", x=1)), AttemptSucceeded)


def test_two_runs_on_one_machine_do_not_have_one_graphics_processor_at_once(
    server, datastore, tmp_path, steps, pid_file
):
    with (
        driving(target_at(server, datastore, tmp_path, gpus=1)) as one,
        driving(target_at(server, datastore, tmp_path / "other", gpus=1)) as other,
    ):
        assert isinstance(other.run(steps("double", x=1)), AttemptSucceeded)  # it is connected
        first = steps("touch_and_sleep", {"gpus": (0,)}, file=str(pid_file), seconds=1)
        begun(one, first, pid_file)
        second = other.run(steps("double", {"gpus": (0,)}, x=2))
        assert second.started_at >= one.answer(first.attempt).ended_at - 0.01
