from mlflow_pipes.display.failure import culprit, failure_lines, frames_of, quoted
from mlflow_pipes.display.look import plain_text
from mlflow_pipes.model.attempt import Failure, FailureKind

TRACEBACK = """Traceback (most recent call last):
  File "/home/me/flights/features.py", line 42, in parse
    return float(text)
           ^^^^^^^^^^^
  File "/venv/lib/python3.11/site-packages/pandas/core.py", line 7, in __float__
    raise ValueError(text)
ValueError: could not convert string to float: 'abc'
"""
CHAINED = """Traceback (most recent call last):
  File "/home/me/flights/io.py", line 3, in read
    open(path)
FileNotFoundError: gone

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/me/flights/io.py", line 5, in read
    raise RuntimeError("no data") from None
RuntimeError: no data
"""


def failure(traceback, message="ValueError: bad"):
    return Failure(FailureKind.EXCEPTION, message, ("ValueError",), traceback)


def test_the_users_deepest_frame_comes_first_not_the_librarys():
    frame = culprit(TRACEBACK)
    assert (frame.file, frame.line, frame.function) == ("/home/me/flights/features.py", 42, "parse")
    assert frame.code == "return float(text)"


def test_of_chained_exceptions_the_last_one_counts():
    assert culprit(CHAINED).line == 5


def test_when_no_frame_is_the_users_the_deepest_is_shown():
    traceback = 'Traceback:\n  File "/venv/site-packages/x.py", line 1, in f\n    g()\nE: x'
    assert culprit(traceback).line == 1


def test_a_failure_is_place_code_exception():
    text = plain_text(failure_lines(failure(TRACEBACK, "ValueError: could not convert string to float: 'abc'")))
    assert text.splitlines() == [
        "    /home/me/flights/features.py:42 in parse",
        "        return float(text)",
        "    ValueError: could not convert string to float: 'abc'",
    ]


def test_a_failure_without_traceback_is_its_message():
    lost = Failure(FailureKind.LOST, "the worker died (signal 11)")
    assert plain_text(failure_lines(lost)) == "    the worker died (signal 11)"
    assert plain_text(failure_lines(None, "timed out\nmore")) == "    timed out"
    assert failure_lines(None, "") == []


def test_frames_without_source_lines_are_read_too():
    text = '  File "/a.py", line 1, in f\n  File "/b.py", line 2, in g\n    code()'
    assert [(frame.file, frame.code) for frame in frames_of(text)] == [("/a.py", ""), ("/b.py", "code()")]


def test_node_names_are_quoted_as_shells_want_them():
    assert quoted("prep/scale") == "prep/scale"
    assert quoted("train[depth=4]") == "'train[depth=4]'"
    assert quoted("it's") == "'it'\\''s'"
