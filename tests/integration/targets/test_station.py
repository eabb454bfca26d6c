"""What a station adds to local workers; that it keeps the contract of targets is tested with those that have one."""

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest

from mlflow_pipes import Environment, content
from mlflow_pipes.environments import Environments
from mlflow_pipes.errors import ConfigurationError, TargetError
from mlflow_pipes.model.attempt import AttemptFailed, AttemptSucceeded, Capacity, Failure, FailureKind
from mlflow_pipes.snapshot.taking import Snapshots
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.station.gpu_locks import GpuLocks
from mlflow_pipes.targets.station.messages import Cancel, Packer, decode_events, encode_events, setup_of
from mlflow_pipes.targets.station.room import Room
from mlflow_pipes.targets.station.station import Station
from mlflow_pipes.testing.target_contract import alive
from mlflow_pipes.testing.target_driver import assignment_of, driving, imported
from mlflow_pipes.worker.sources import SourceChangedError

pytestmark = pytest.mark.integration


class StationTarget:
    """The least target that has a station: bytes go in, bytes come out, all in this process."""

    def __init__(self, name, datastore, folder, *, slots=2, idle_s=60.0, passing=None, room=None):
        self.name = name
        self._datastore, self._folder, self._slots, self._idle_s = datastore, folder, slots, idle_s
        self._passing, self._room = passing, room
        self.station = None

    def start(self, report):
        setup = setup_of(self.name, self._datastore, "", {})

        def take(events):
            for event in decode_events(encode_events(events)):
                report(event)

        self._packer = Packer(Snapshots(self._datastore).shipped)
        self._report = report
        options = {"slots": self._slots, "idle_s": self._idle_s, "passing": self._passing, "room": self._room}
        self.station = Station(setup, self._folder, take, **options)

    def capacity(self):
        return Capacity(self._slots, slots=self._slots)

    def submit(self, assignment):
        try:
            message = self._packer.pack(assignment)
        except SourceChangedError as error:
            now = time.time()
            failure = Failure(FailureKind.SOURCE_CHANGED, str(error))
            self._report(AttemptFailed(assignment.attempt, failure, now, now))
            return
        self.station.take(message)

    def cancel(self, attempt):
        if not self.station._is_closing:
            self.station.do(Cancel(attempt))

    def close(self):
        self.station.close()


@pytest.fixture
def datastore(tmp_path):
    return LocalDatastore(tmp_path / "datastore")


def value(answer, datastore):
    assert isinstance(answer, AttemptSucceeded), answer
    return content.load(answer.output, datastore)


def project(folder: Path, constant: int) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "pipes.toml").write_text("")
    (folder / "constants_of_station.py").write_text(f"A = {constant}\n")
    (folder / "inner" / "numbers.txt").write_text(str(constant))
    (folder / "flow_of_station.py").write_text(
        "from pathlib import Path\n"
        "def step(x):\n"
        "    from constants_of_station import A\n"
        "    return A + int((Path(__file__).parent / 'inner' / 'numbers.txt').read_text()), __file__\n"
        "def read(file: Path) -> tuple[str, str]:\n"
        "    return str(file), file.read_text()\n"
        "def fail(x):\n"
        "    print('in', __file__)\n"
        "    raise ValueError(f'bad file {__file__}')\n"
    )
    return folder / "flow_of_station.py"


def test_modules_and_files_of_the_project_are_there_although_the_project_is_not(datastore, tmp_path):
    flow = project(tmp_path / "project", 20)
    with driving(StationTarget("s", datastore, tmp_path / "station")) as driver:
        target = driver.target
        message = target._packer.pack(assignment := assignment_of(imported(flow, "step"), datastore, {"x": 1}))
        shutil.rmtree(tmp_path / "project")
        target.station.take(message)
        total, where = value(driver.answer(assignment.attempt), datastore)
    assert total == 40
    assert where == str(next((tmp_path / "station" / "code").iterdir())) + str(flow)


def test_failures_and_lines_name_the_files_that_the_user_has(datastore, tmp_path):
    flow = project(tmp_path / "project", 20)
    assignment = assignment_of(imported(flow, "fail"), datastore, {"x": 1})
    with driving(StationTarget("s", datastore, tmp_path / "station")) as driver:
        answer = driver.run(assignment)
    assert answer.failure.message == f"ValueError: bad file {flow}"
    assert f'File "{flow}", line 9, in fail' in answer.failure.traceback
    assert driver.lines(assignment.attempt, "stdout") == [f"in {flow}"]


def test_what_attempts_were_given_to_read_is_removed_at_the_end_and_code_stays(datastore, tmp_path):
    flow = project(tmp_path / "project", 20)
    (tmp_path / "input.txt").write_text("7")
    passing, stays = tmp_path / "passing", tmp_path / "station"
    with driving(StationTarget("s", datastore, stays, passing=passing)) as driver:
        read = assignment_of(imported(flow, "read"), datastore, {"file": tmp_path / "input.txt"})
        where, text = value(driver.run(read), datastore)
        assert text == "7"
        assert where.startswith(str(passing))
    assert not passing.exists()
    assert len(list((stays / "code").iterdir())) == 1


def test_a_step_is_refused_where_its_code_would_meet_other_packages_than_its_key_names(datastore, tmp_path):
    flow = project(tmp_path / "project", 20)
    assignment = assignment_of(imported(flow, "step"), datastore, {"x": 1})
    here = (("pytest", pytest.__version__),)
    others = (*here, ("cloudpickle", "0.1"), ("no-such-package", "2.0"))
    with driving(StationTarget("s", datastore, tmp_path / "station")) as driver:
        with pytest.raises(TargetError) as refused:
            driver.target.submit(replace(assignment, versions=others))
        assert value(driver.run(replace(assignment, versions=here)), datastore)[0] == 40
    assert f"cloudpickle is {cloudpickle.__version__} here and 0.1 where the run was started" in str(refused.value)
    assert "no-such-package is not here and 2.0" in str(refused.value)
    assert "pytest" not in str(refused.value)


def test_two_versions_of_one_project_do_not_mix_in_one_station(datastore, tmp_path):
    flow = project(tmp_path / "project", 1)
    with driving(StationTarget("s", datastore, tmp_path / "station")) as driver:
        first = imported(flow, "step")
        assert value(driver.run(assignment_of(first, datastore, {"x": 1})), datastore)[0] == 2
        (tmp_path / "project" / "constants_of_station.py").write_text("A = 100\n")
        old, driver.target._packer = driver.target._packer, Packer(Snapshots(datastore).shipped)
        assert value(driver.run(assignment_of(first, datastore, {"x": 2})), datastore)[0] == 101
        driver.target._packer = old
        assert value(driver.run(assignment_of(first, datastore, {"x": 3})), datastore)[0] == 2


def test_a_pool_without_work_is_ended_after_a_while(datastore, tmp_path):
    flow = project(tmp_path / "project", 1)
    (tmp_path / "project" / "pid_of_station.py").write_text("import os\ndef pid(x):\n    return os.getpid()\n")
    with driving(StationTarget("s", datastore, tmp_path / "station", idle_s=0.2)) as driver:
        function = imported(flow.parent / "pid_of_station.py", "pid")
        pid = value(driver.run(assignment_of(function, datastore, {"x": 1})), datastore)
        driver.until(lambda: not alive(pid))
        assert value(driver.run(assignment_of(function, datastore, {"x": 2})), datastore) != pid


def test_what_is_cancelled_before_it_comes_does_not_begin(datastore, tmp_path):
    flow = project(tmp_path / "project", 1)
    assignment = assignment_of(imported(flow, "step"), datastore, {"x": 1})
    with driving(StationTarget("s", datastore, tmp_path / "station")) as driver:
        driver.target.cancel(assignment.attempt)
        answer = driver.run(assignment)
    assert answer.failure.kind is FailureKind.CANCELLED


def test_cpus_that_attempts_ask_for_are_not_given_twice(datastore, tmp_path):
    (tmp_path / "naps_of_station.py").write_text("import time\ndef nap(x):\n    time.sleep(0.3)\n")
    nap = imported(tmp_path / "naps_of_station.py", "nap")
    wide = [assignment_of(nap, datastore, {"x": number}, cpus=2.0) for number in range(2)]
    with driving(StationTarget("s", datastore, tmp_path / "station")) as driver:
        for assignment in wide:
            driver.target.submit(assignment)
        first, second = (driver.answer(assignment.attempt) for assignment in wide)
    assert second.started_at >= first.ended_at - 0.01


def test_a_graphics_processor_is_not_given_to_two_sessions_of_one_machine(datastore, tmp_path):
    (tmp_path / "sees_of_station.py").write_text(
        "import os, time\ndef sees(x):\n    time.sleep(0.3)\n    return os.environ['CUDA_VISIBLE_DEVICES']\n"
    )
    sees = imported(tmp_path / "sees_of_station.py", "sees")
    both = [assignment_of(sees, datastore, {"x": number}, gpus=(0,)) for number in range(2)]
    rooms = [Room(2, 1, GpuLocks(tmp_path / "gpus", ("0",))) for _ in both]
    with (
        driving(StationTarget("one", datastore, tmp_path / "one", room=rooms[0])) as one,
        driving(StationTarget("other", datastore, tmp_path / "other", room=rooms[1])) as other,
    ):
        for driver, assignment in zip((one, other), both, strict=True):
            driver.target.submit(assignment)
        first, second = one.answer(both[0].attempt), other.answer(both[1].attempt)
        assert value(first, datastore) == value(second, datastore) == "0"
    earlier, later = sorted((first, second), key=lambda answer: answer.started_at)
    assert later.started_at >= earlier.ended_at - 0.01


def test_versions_that_differ_are_told_before_anything_runs(datastore, tmp_path):
    setup = setup_of("s", datastore, "", {})._replace(versions=(("Python", "2.7"),))
    with pytest.raises(TargetError, match=r"Python is 3\.\d+ here and 2\.7 where the run was started"):
        Station(setup, tmp_path, lambda events: None, slots=1)


def test_attempts_run_in_their_environments_as_these_are_here(datastore, tmp_path):
    (tmp_path / "place_of_station.py").write_text(
        "import os, sys\ndef place(x):\n    return [os.environ.get('COLOUR', ''), os.environ.get('VIRTUAL_ENV', '')]\n"
    )
    place = imported(tmp_path / "place_of_station.py", "place")
    declared = Environment(interpreter=sys.executable, environ={"COLOUR": "red"}, name="own")
    resolved = Environments(tmp_path / "known", tmp_path).resolve(declared)
    elsewhere = replace(resolved, command=("/of/another/machine",), prefix="/of/another/machine")
    inside = assignment_of(place, datastore, {"x": 1}, environment=elsewhere)
    other = assignment_of(place, datastore, {"x": 2}, environment=replace(elsewhere, digest="0" * 64))
    with driving(StationTarget("s", datastore, tmp_path / "station")) as driver:
        assert value(driver.run(inside), datastore) == ["red", resolved.prefix]
        assert value(driver.run(assignment_of(place, datastore, {"x": 3})), datastore)[0] == ""
        with pytest.raises(ConfigurationError, match=r"environment 'own' .* is not the same here"):
            driver.target.submit(other)
