"""A recorded run to show: whoever tests a view says what happens, in the words of the engine's records."""

import io

import pytest

from mlflow_pipes.model.attempt import AttemptId, AttemptStarted, Failure, FailureKind, LogLine, Progress, UsageSample
from mlflow_pipes.model.run import (
    AttemptEnded,
    AttemptSampled,
    RunEnded,
    RunStarted,
    Status,
    StepChanged,
    StepDeclared,
    StepTracked,
)
from mlflow_pipes.model.tracked import Metric, Tracked

RUN = "3f2a91c0" + "0" * 24


class Script:
    """Feeds observers (or anything with ``recorded`` and ``seen``) the events of a run; time is a number."""

    def __init__(self, observer):
        self.observer = observer
        self.now = 100.0

    def start(self, pipeline="flights", target="local"):
        self.observer.recorded([RunStarted(RUN, pipeline, pipeline, self.now, target=target)])
        return self

    def declare(self, *nodes, kind="step", parent=None):
        parent_id = RUN if parent is None else f"id-{parent}"
        records = [
            StepDeclared(RUN, f"id-{node}", node, node.rpartition("/")[2].partition("[")[0], kind, parent_id)
            for node in nodes
        ]
        self.observer.recorded(records)
        return self

    def begin(self, node, number=1):
        self.observer.seen(AttemptStarted(AttemptId(RUN, node, number), self.now))
        return self.change(node, Status.RUNNING, attempts=number)

    def change(self, node, status, **facts):
        self.observer.recorded([StepChanged(RUN, f"id-{node}", status, self.now, **facts)])
        return self

    def succeed(self, *nodes, **facts):
        for node in nodes:
            self.change(node, Status.SUCCEEDED, **facts)
        return self

    def reuse(self, *nodes):
        for node in nodes:
            self.change(node, Status.REUSED, reused_from="f" * 32)
        return self

    def fail(self, node, message="ValueError: bad", traceback="", number=1):
        failure = Failure(FailureKind.EXCEPTION, message, ("ValueError",), traceback)
        self.observer.recorded([AttemptEnded(RUN, f"id-{node}", number, self.now, self.now, failure=failure)])
        return self.change(node, Status.FAILED, reason=message, attempts=number)

    def use(self, node, cpus, memory_bytes, number=1):
        sample = UsageSample(AttemptId(RUN, node, number), self.now, cpus, memory_bytes)
        self.observer.recorded([AttemptSampled(RUN, f"id-{node}", sample)])
        return self

    def say(self, node, text, stream="stdout"):
        self.observer.seen(LogLine(AttemptId(RUN, node, 1), stream, text, self.now))
        return self

    def progress(self, node, done, total, text=""):
        self.observer.seen(Progress(AttemptId(RUN, node, 1), done, total, text))
        return self

    def track(self, node, **numbers):
        metrics = tuple(Metric(key, number=number) for key, number in numbers.items())
        self.observer.recorded([StepTracked(RUN, f"id-{node}", Tracked(metrics=metrics))])
        return self

    def wait(self, seconds):
        self.now += seconds
        return self

    def end(self, status=Status.SUCCEEDED, message=""):
        self.observer.recorded([RunEnded(RUN, status, self.now, message=message)])
        return self


class Recorder:
    """A RunProgress with an observer's face."""

    def __init__(self, progress):
        self.progress = progress

    def recorded(self, records):
        for record in records:
            self.progress.record(record)

    def seen(self, event):
        self.progress.event(event)


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def script():
    return Script


@pytest.fixture
def told():
    """A run's progress and the script that tells it."""
    from mlflow_pipes.display.progress import RunProgress

    progress = RunProgress()
    return progress, Script(Recorder(progress))


@pytest.fixture
def terminal():
    return Terminal()
