"""What becomes of attempts that Spark's tasks do, with tasks and a cluster that do nothing by themselves."""

import time

import pytest

from mlflow_pipes import content
from mlflow_pipes.digests import Digest
from mlflow_pipes.model.attempt import AttemptFailed, AttemptStarted, AttemptSucceeded, Failure, FailureKind
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.spark.greeting import Arrived
from mlflow_pipes.targets.spark.plain_steps import PlainSteps
from mlflow_pipes.targets.spark.plan import SparkPlan
from mlflow_pipes.targets.station.messages import encode_events
from mlflow_pipes.targets.station.parcels import Parcels
from mlflow_pipes.testing.target_driver import assignment_of, imported


class QuietCluster:
    """A cluster that is up and notes for how many tasks it is asked."""

    tasks, task_cpus, grows, is_up = 2, 1.0, False, True

    def __init__(self):
        self.asked = []

    def want(self):
        return ""

    def ask(self, count):
        self.asked.append(count)
        return str(len(self.asked))

    def explained(self, said):
        return f"Spark says: {said}"


class QuietVisitor:
    """A task that notes what it is told."""

    is_behind_s = 0.0

    def __init__(self, number, job, *, sees=True):
        self.number = number
        self.arrived = Arrived(job, "host", "/folder", sees)
        self.told, self.forgotten = [], set()

    def send(self, message, needs):
        self.told.append(("do", set(needs)))

    def cancel(self, attempt):
        self.told.append(("cancel", attempt))

    def forget(self, digests):
        self.forgotten |= set(digests)

    def dismiss(self):
        self.told.append(("go", None))


@pytest.fixture
def datastore(tmp_path):
    return LocalDatastore(tmp_path / "datastore")


@pytest.fixture
def cluster():
    return QuietCluster()


@pytest.fixture
def events():
    return []


@pytest.fixture
def plain_steps(datastore, cluster, events, tmp_path):
    parcels = Parcels(datastore, None, [tmp_path / "datastore"])
    return PlainSteps(SparkPlan("spark://m:7077"), datastore, parcels, cluster, events.append)


@pytest.fixture
def assignment(datastore, tmp_path):
    file = tmp_path / "steps.py"
    file.write_text("def double(x):\n    return 2 * x\n")
    return lambda x=1: assignment_of(imported(file, "double"), datastore, {"x": x})


def failed(one, kind, *blobs):
    now = time.time()
    return AttemptFailed(one.attempt, Failure(kind, "it failed", blobs=blobs), now, now)


def test_an_attempt_goes_to_the_task_that_was_asked_for_and_is_answered_once(
    plain_steps, cluster, events, assignment, datastore
):
    one = assignment()
    plain_steps.begin(one)
    assert plain_steps.turn() == ""
    assert cluster.asked == [1]
    visitor = QuietVisitor(1, "1")
    plain_steps.on_opened(visitor)
    plain_steps.turn()
    assert visitor.told == [("do", set())]
    started = AttemptStarted(one.attempt, time.time())
    done = AttemptSucceeded(one.attempt, content.store(2, datastore), time.time(), time.time())
    assert plain_steps.on_told(visitor, encode_events([started, started, done]), {})
    assert not plain_steps.on_told(visitor, encode_events([done]), {})
    plain_steps.on_gone(visitor, "hung up")
    plain_steps.fail_all(FailureKind.WORLD, "the end")
    assert events == [started, done]


def test_jobs_that_send_no_task_are_asked_for_again_but_not_for_ever(plain_steps, cluster, assignment):
    plain_steps.begin(assignment())
    said = []
    for number in range(3):
        plain_steps.turn()
        said.append(plain_steps.on_job_ended(str(number + 1), ""))
    assert cluster.asked == [1, 1, 1]
    assert said == ["", "", "Spark says: its tasks end before they come for work"]


def test_a_job_that_spark_could_not_do_is_told_at_once(plain_steps, assignment):
    plain_steps.begin(assignment())
    plain_steps.turn()
    assert plain_steps.on_job_ended("1", "no such queue") == "Spark says: no such queue"


def test_tasks_are_asked_for_anew_of_the_driver_that_follows_one_that_is_gone(plain_steps, cluster, assignment):
    plain_steps.begin(assignment())
    plain_steps.turn()
    plain_steps.turn()
    assert cluster.asked == [1], "it is expected"
    plain_steps.on_driver_gone()
    plain_steps.turn()
    assert cluster.asked == [1, 1]


def test_inputs_that_were_spoilt_there_and_are_whole_here_are_sent_once_more(
    plain_steps, events, assignment, datastore
):
    one = assignment(b"z" * 5_000)
    (blob,) = content.blobs_of(one.arguments["x"], datastore)
    plain_steps.begin(one)
    plain_steps.turn()
    visitor = QuietVisitor(1, "1", sees=False)
    plain_steps.on_opened(visitor)
    plain_steps.turn()
    spoilt = encode_events([failed(one, FailureKind.INPUT, str(blob))])
    assert not plain_steps.on_told(visitor, spoilt, {})
    assert visitor.forgotten == {Digest.parse(str(blob))}
    assert [blob in needs for _, needs in visitor.told] == [True, True]
    assert events == []
    assert plain_steps.on_told(visitor, spoilt, {}), "once"
    assert [event.failure.kind for event in events] == [FailureKind.INPUT]


def test_an_output_that_did_not_get_here_is_no_success(plain_steps, events, assignment, datastore):
    one = assignment()
    plain_steps.begin(one)
    plain_steps.turn()
    visitor = QuietVisitor(1, "1", sees=False)
    plain_steps.on_opened(visitor)
    plain_steps.turn()
    output = content.store(2, datastore)
    absence = type("Absence", (), {"why": "the disk is full"})
    done = AttemptSucceeded(one.attempt, output, time.time(), time.time())
    assert not plain_steps.on_told(visitor, encode_events([done]), {datastore.put([b"x"]): absence})
    assert [event.failure.kind for event in events] == [FailureKind.WORLD]
    assert "did not get here: the disk is full" in events[0].failure.message


def test_what_a_task_had_that_goes_away_is_lost_but_what_was_cancelled_is_cancelled(plain_steps, events, assignment):
    two = [assignment(), assignment()]
    for one in two:
        plain_steps.begin(one)
    plain_steps.turn()
    visitors = [QuietVisitor(number, "1") for number in (1, 2)]
    for visitor in visitors:
        plain_steps.on_opened(visitor)
    plain_steps.turn()
    plain_steps.cancel(two[1].attempt)
    plain_steps.cancel(two[1].attempt)
    assert visitors[1].told[1:] == [("cancel", two[1].attempt)]
    for visitor in visitors:
        plain_steps.on_gone(visitor, "killed")
    assert [(event.attempt, event.failure.kind) for event in events] == [
        (two[0].attempt, FailureKind.LOST),
        (two[1].attempt, FailureKind.CANCELLED),
    ]


def test_at_the_end_what_waits_is_answered_and_tasks_that_come_late_are_sent_away(plain_steps, events, assignment):
    one = assignment()
    plain_steps.begin(one)
    plain_steps.turn()
    plain_steps.dismiss_all()
    assert [(event.attempt, event.failure.kind) for event in events] == [(one.attempt, FailureKind.CANCELLED)]
    late = QuietVisitor(1, "1")
    plain_steps.on_opened(late)
    assert late.told == [("go", None)]
    assert plain_steps.have_tasks
    plain_steps.on_gone(late, "it was told to")
    assert not plain_steps.have_tasks
