import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.display import observer_for
from mlflow_pipes.display.live import LiveObserver
from mlflow_pipes.display.look import Look, cells, clip, visible
from mlflow_pipes.display.plain import PlainObserver
from mlflow_pipes.display.tables import table_lines
from mlflow_pipes.errors import ConfigurationError


def test_a_terminal_gets_the_live_view_and_a_pipe_plain_lines(terminal):
    assert isinstance(observer_for(terminal, environ={"TERM": "xterm"}), LiveObserver)
    assert isinstance(observer_for(io.StringIO(), environ={}), PlainObserver)
    assert isinstance(observer_for(terminal, environ={"TERM": "dumb"}), PlainObserver)


def test_pipes_display_decides_over_the_stream(terminal):
    assert observer_for(terminal, environ={"PIPES_DISPLAY": "off"}) is None
    assert isinstance(observer_for(terminal, environ={"PIPES_DISPLAY": "plain"}), PlainObserver)
    assert isinstance(observer_for(io.StringIO(), environ={"PIPES_DISPLAY": "live"}), LiveObserver)


def test_an_unknown_display_is_refused_with_the_near_name():
    with pytest.raises(ConfigurationError, match="did you mean 'plain'"):
        observer_for(io.StringIO(), environ={"PIPES_DISPLAY": "plian"})


@pytest.mark.parametrize(
    ("environ", "colour"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
    ],
)
def test_colours_are_where_they_are_wanted(terminal, environ, colour):
    assert Look.of(terminal, environ).colour is colour


def test_a_stream_that_cannot_encode_our_symbols_gets_ascii():
    assert not Look.of(io.TextIOWrapper(io.BytesIO(), encoding="latin-1"), {}).unicode
    assert not Look.of(io.TextIOWrapper(io.BytesIO(), encoding="ascii"), {}).unicode
    assert Look.of(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), {}).unicode


def test_what_steps_write_cannot_steer_the_terminal():
    assert visible("a\x1b[2Jb\x1b]0;title\x07c\rd\x9b31me\x00") == "abcd31me"
    assert visible("a\tb") == "a   b"


def test_text_that_was_no_utf8_can_still_be_written():
    assert visible("caf\udce9").encode("utf-8")


@given(st.text(max_size=40), st.integers(0, 30))
def test_clipped_text_is_never_wider_than_asked(text, width):
    assert cells(clip(text, width)) <= width


@given(st.lists(st.lists(st.text(max_size=30), min_size=3, max_size=3), min_size=1, max_size=5), st.integers(40, 120))
def test_tables_fit_the_width_whatever_stands_in_them(rows, width):
    look = Look(width=width)
    lines = table_lines(look, ["a", "b", "c"], [[(text, "") for text in row] for row in rows])
    assert len(lines) == len(rows) + 1
    for line in lines:
        assert cells(look.text(line)) <= width


def test_tables_are_written_in_full_where_there_is_no_width():
    lines = table_lines(Look(width=None), ["a"], [[("x" * 500, "")]])
    assert lines[1][-1][0] == "x" * 500
