import io

import pytest

from mlflow_pipes.display.look import Look, plain_text
from mlflow_pipes.display.plain import PlainObserver
from mlflow_pipes.display.spoken import Spoken
from mlflow_pipes.model.attempt import AttemptId, LogLine
from mlflow_pipes.model.run import Status


@pytest.fixture
def plain(script):
    """A plain observer on a text, and its script; it is drawn when the test says so."""
    stream = io.StringIO()
    tell = script(None)
    observer = PlainObserver(stream, Look(), clock=lambda: tell.now)
    tell.observer = observer
    yield stream, observer, tell
    observer.close()


def test_steps_get_a_line_when_they_end(plain):
    stream, _, tell = plain
    tell.start().declare("load", "train").reuse("load").begin("train").say("train", "hello").wait(0.5).succeed(
        "train"
    ).end()
    assert stream.getvalue().splitlines() == [
        "flights  run 3f2a91c0",
        "train │ hello",
        "↺ load  reused",
        "✓ train  ran in 500 ms",
        "✓ flights succeeded in 500 ms: 1 ran, 1 reused",
        "  look closer: pipes show 3f2a91c0   in MLflow: pipes ui",
    ]


def test_a_step_that_takes_long_is_announced_once_while_it_runs(plain):
    stream, observer, tell = plain
    tell.start().declare("train").begin("train")
    observer.draw()
    assert "started" not in stream.getvalue()
    tell.wait(1.5)
    observer.draw()
    observer.draw()
    assert stream.getvalue().count("▸ train  started") == 1


def test_ten_thousand_steps_do_not_flood(plain):
    stream, observer, tell = plain
    nodes = [f"s[{i}]" for i in range(10_000)]
    tell.start().declare(*nodes)
    for index, node in enumerate(nodes):
        tell.begin(node).wait(0.01).succeed(node)
        if index % 100 == 0:
            observer.draw()
    tell.end()
    lines = stream.getvalue().splitlines()
    assert len(lines) < 300
    assert any("/10,000 steps" in line for line in lines)
    assert "10,000 ran" in lines[-2]


def test_failures_are_told_also_after_the_lines_of_good_steps_are_used_up(plain):
    stream, _, tell = plain
    tell.start().declare(*[f"s[{i}]" for i in range(500)], "bad").succeed(*[f"s[{i}]" for i in range(500)])
    tell.fail("bad", "KeyError: 'x'").end(Status.FAILED)
    assert "✗ bad  failed: KeyError: 'x'" in stream.getvalue()


def test_log_lines_that_come_too_fast_are_counted_not_shown():
    spoken = Spoken()
    for i in range(50_000):
        spoken.add(LogLine(AttemptId("r", "noisy", 1), "stdout", str(i), 0.0))
    lines = plain_text(spoken.take(Look(), 0.0)).splitlines()
    assert len(lines) == 1001
    assert lines[-1].startswith("… 49,000 lines not shown")
    assert lines[-2] == "noisy │ 49999"
    assert spoken.take(Look(), 10.0) == []


def test_log_lines_that_come_slowly_are_all_shown():
    spoken = Spoken()
    shown = 0
    for second in range(100):
        for _ in range(300):
            spoken.add(LogLine(AttemptId("r", "steady", 1), "stdout", "x", 0.0))
        shown += len(spoken.take(Look(), float(second)))
    assert shown == 30_000


def test_a_reader_who_went_away_does_not_stop_the_run(script):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    tell = script(PlainObserver(Closed(), Look()))
    tell.start().declare("a").succeed("a").end()


def test_closing_twice_or_before_the_start_is_harmless():
    observer = PlainObserver(io.StringIO(), Look())
    observer.close()
    observer.close()
