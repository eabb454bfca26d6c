"""Bytes that arrive in pieces, as lines of text."""

from __future__ import annotations

# A longer line is cut, so that a step that writes gigabytes without a line end costs no memory.
LONGEST_LINE_BYTES = 64 * 1024


class Lines:
    """Splits what arrives into lines without their ends; utf-8, other bytes replaced.

    Of a line that rewrites itself with carriage returns (a progress bar) the last state is kept, as a terminal shows.
    """

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, piece: bytes) -> list[str]:
        """Return the lines that *piece* completes."""
        if not piece:
            return []
        *whole, begun = (self._begun + piece).split(b"\n") if self._begun else piece.split(b"\n")
        lines = [_text(part) for line in whole for part in _cut(line)]
        if len(begun) > LONGEST_LINE_BYTES:
            if b"\r" in begun:
                begun = begun[begun.rindex(b"\r") :]
            *parts, begun = _cut(begun)
            lines += [_text(part) for part in parts]
        self._begun = begun
        return lines

    def rest(self) -> list[str]:
        """Return the line that was begun, if any, and begin anew."""
        begun, self._begun = self._begun, b""
        return [_text(part) for part in _cut(begun)] if begun else []


def _cut(line: bytes) -> list[bytes]:
    if len(line) <= LONGEST_LINE_BYTES:
        return [line]
    parts = []
    while len(line) > LONGEST_LINE_BYTES:
        at = LONGEST_LINE_BYTES
        while at > LONGEST_LINE_BYTES - 4 and line[at] & 0xC0 == 0x80:  # not inside a letter of several bytes
            at -= 1
        parts.append(line[:at])
        line = line[at:]
    return [*parts, line]


def _text(line: bytes) -> str:
    text = line.decode("utf-8", "replace").rstrip("\r")
    return text.rpartition("\r")[2] if "\r" in text else text
