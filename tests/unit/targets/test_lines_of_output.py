"""Bytes in pieces become lines."""

from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.targets.lines import LONGEST_LINE_BYTES, Lines


def lines_of(*pieces):
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)]
    return found + lines.rest()


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))), st.data())
def test_how_output_is_cut_into_pieces_changes_nothing(texts, data):
    whole = "".join(text + "\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert lines_of(*pieces) == texts


def test_the_last_line_needs_no_end():
    assert lines_of(b"one\ntw", b"o") == ["one", "two"]


def test_empty_lines_are_lines():
    assert lines_of(b"\n\na\n") == ["", "", "a"]


def test_ends_of_windows_are_taken_off():
    assert lines_of(b"a\r\nb\r\n") == ["a", "b"]


def test_a_progress_bar_shows_its_last_state():
    assert lines_of(b"\r 10%|#\r 50%|##", b"\r100%|###\n") == ["100%|###"]


def test_other_bytes_than_utf_8_are_replaced():
    assert lines_of(b"caf\xe9\n") == ["caf�"]


def test_a_long_line_is_cut_between_letters():
    text = "é" * LONGEST_LINE_BYTES + "x"
    lines = lines_of(*[text.encode()[at : at + 1000] for at in range(0, 2 * LONGEST_LINE_BYTES + 1, 1000)])
    assert "".join(lines) == text
    assert max(len(line.encode()) for line in lines) <= LONGEST_LINE_BYTES


def test_a_long_bar_without_line_end_takes_no_memory():
    lines = Lines()
    for number in range(10_000):
        lines.feed(b"\r%60d" % number)
    assert len(lines._begun) <= LONGEST_LINE_BYTES
    assert lines.rest() == [f"{9_999:60d}"]
