"""What a program writes becomes lines, however it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge.commands.output import MAX_LINE_BYTES, LastLines, LineSplitter


def lines_of(*pieces: bytes) -> list[str]:
    splitter = LineSplitter()
    found = [line for piece in pieces for line in splitter.feed(piece)]
    return found + splitter.finish()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_lines_come_whole_in_whatever_pieces(size: int) -> None:
    text = "one\n\n \ntwo\r\nümlaut €\n" + "x" * 20
    data = text.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert lines_of(*pieces) == ["one", "two", "ümlaut €", "x" * 20]


def test_a_line_is_given_as_soon_as_it_has_ended() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw") == ["one"]
    assert splitter.begun == b"tw"
    assert LineSplitter(splitter.begun).feed(b"o\n") == ["two"]


def test_a_line_without_an_end_takes_no_memory() -> None:
    splitter = LineSplitter()
    for _ in range(100):
        for line in splitter.feed(b"x" * 1000):
            assert len(line) == MAX_LINE_BYTES
        assert len(splitter.begun) <= MAX_LINE_BYTES


def test_a_long_line_is_not_cut_within_a_character() -> None:
    text = "€" * MAX_LINE_BYTES
    found = lines_of(text.encode() + b"\n")
    assert "".join(found) == text
    assert max(len(it.encode()) for it in found) <= MAX_LINE_BYTES
    assert lines_of(b"\x80" * 3 * MAX_LINE_BYTES) != []


@given(st.lists(st.binary()))
def test_any_bytes_become_lines_that_are_short_enough(pieces: list[bytes]) -> None:
    for line in lines_of(*pieces):
        assert line.strip()
        assert "\n" not in line


def test_the_last_lines_are_kept_and_are_short() -> None:
    last = LastLines()
    for number in range(12):
        last.add(f"{number} " + "x" * 1000)
    kept = str(last).splitlines()
    assert [it.split()[0] for it in kept] == [str(it) for it in range(2, 12)]
    assert max(map(len, kept)) == 300
