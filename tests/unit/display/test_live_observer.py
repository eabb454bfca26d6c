import subprocess
import sys
import time

from mlflow_pipes.display.live import LiveObserver
from mlflow_pipes.display.look import Look


def test_a_quick_run_is_only_summed_up_and_rich_is_never_imported():
    program = """
import io, sys
from mlflow_pipes.display.live import LiveObserver
from mlflow_pipes.display.look import Look
from mlflow_pipes.model.run import RunStarted, RunEnded, StepDeclared, StepChanged, Status
observer = LiveObserver(io.StringIO(), Look())
observer.recorded([RunStarted("a" * 32, "p", "p", 1.0), StepDeclared("a" * 32, "i", "load", "load", "step", "a" * 32)])
observer.recorded([StepChanged("a" * 32, "i", Status.REUSED, 1.0), RunEnded("a" * 32, Status.SUCCEEDED, 1.1)])
assert "load" in observer._stream.getvalue()
assert not any(name.partition(".")[0] == "rich" for name in sys.modules), "rich was imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_drawn_is_taken_away_at_the_end_and_the_cursor_comes_back(terminal, script):
    tell = script(None)
    observer = tell.observer = LiveObserver(terminal, Look(width=80), clock=lambda: tell.now)
    tell.start().declare("load", "train").begin("load").say("load", "reading [bold]x[/bold]")
    observer.draw()
    drawn = terminal.getvalue()
    assert "load │ reading [bold]x[/bold]" in drawn
    assert "0/2 steps" in drawn
    assert "\x1b[?25l" in drawn  # the cursor is hidden
    tell.succeed("load", "train").end()
    rest = terminal.getvalue()[len(drawn) :]
    assert "\x1b[?25h" in rest
    assert "✓ flights succeeded" in rest.rpartition("\x1b")[2]


def test_an_observer_that_is_closed_before_the_end_gives_the_terminal_back(terminal, script):
    observer = LiveObserver(terminal, Look(width=80))
    script(observer).start().declare("load")
    observer.draw()
    observer.close()
    observer.close()
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_nothing_moves_while_steps_run_in_this_process_perhaps_under_a_debugger(terminal, script):
    observer = LiveObserver(terminal, Look(width=80))
    tell = script(observer)
    tell.start(target="inline").declare("load").begin("load").say("load", "hello").succeed("load").end()
    observer.close()
    assert "\x1b[?25l" not in terminal.getvalue()
    assert "load │ hello" in terminal.getvalue()
    assert "✓ load  ran" in terminal.getvalue()


def test_without_colour_no_colour_is_written(terminal, script):
    observer = LiveObserver(terminal, Look(colour=False, width=80))
    tell = script(observer)
    tell.start().declare("load").begin("load")
    observer.draw()
    tell.fail("load").end()
    assert "\x1b[3" not in terminal.getvalue()
    assert "\x1b[1m" not in terminal.getvalue()


def test_drawing_a_run_of_ten_thousand_steps_takes_a_few_milliseconds(terminal, script):
    observer = LiveObserver(terminal, Look(width=100))
    tell = script(observer)
    tell.start().declare(*[f"s[{i}]" for i in range(10_000)])
    observer.draw()
    began = time.process_time()
    for _ in range(20):
        observer.draw()
    assert (time.process_time() - began) / 20 < 0.02  # 0.4 ms here
    observer.close()
