"""``uwsgibridge.testing.log_stream``: lines, events, and waiting for them."""

from __future__ import annotations

import os
import threading

import pytest

from uwsgibridge.testing import LogStream, StackError, event_with


@pytest.fixture
def written():
    """A stream, and the end to write into."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as lines, os.fdopen(writing, "wb", buffering=0) as file:
        stream = LogStream(lines, source="the test")
        yield stream, file
        file.close()
        assert stream.wait_ended(10)


def test_lines_with_objects_are_events_and_all_lines_are_text(written):
    stream, file = written
    file.write(b'{"event": "a"}\nplain \xff\n["b"]\n{broken\n{"event": "c", "n": 1}\n')
    assert stream.wait_for_event(event_with(event="c")) == {"event": "c", "n": 1}
    assert [event["event"] for event in stream.events()] == ["a", "c"]
    assert [event["event"] for event in stream.events(since=1)] == ["c"]
    assert stream.text().splitlines()[1:4] == ["plain \ufffd", '["b"]', "{broken"]
    assert stream.line_count() == 5
    assert stream.text(since_line=4) == '{"event": "c", "n": 1}\n'


def test_a_line_that_comes_in_pieces_is_one(written):
    stream, file = written
    for piece in (b'{"eve', b'nt": ', b'"a"}\n'):
        file.write(piece)
    assert stream.wait_for_event(event_with(event="a"))


def test_waiting_ends_with_an_event_that_comes_later(written):
    stream, file = written
    file.write(b'{"event": "a"}\n')
    stream.wait_for_event(event_with(event="a"))
    found = []
    waiting = threading.Thread(
        target=lambda: found.append(stream.wait_for_event(event_with(event="a"), since=1))
    )
    waiting.start()
    file.write(b'{"event": "b"}\n{"event": "a", "n": 2}\n')
    waiting.join(10)
    assert found == [{"event": "a", "n": 2}]


def test_all_fields_have_to_be_equal():
    predicate = event_with(event="a", n=1)
    assert predicate({"event": "a", "n": 1, "more": 2})
    assert not predicate({"event": "a", "n": 2})
    assert not predicate({"event": "a"})


def test_a_deadline_ends_the_waiting_and_shows_the_log(written):
    stream, file = written
    file.write(b'{"event": "a"}\n')
    stream.wait_for_event(event_with(event="a"))
    with pytest.raises(StackError, match=r"0\.01 s passed") as caught:
        stream.wait_for_event(event_with(event="b"), timeout_seconds=0.01)
    assert caught.value.log == '{"event": "a"}\n'
    assert '{"event": "a"}' in str(caught.value)


def test_the_end_of_the_lines_ends_the_waiting_at_once(written):
    stream, file = written
    file.write(b"last words")
    file.close()
    with pytest.raises(StackError, match="the test has ended"):
        stream.wait_for_event(event_with(event="b"), timeout_seconds=60)
    assert stream.text() == "last words\n"


def test_whoever_is_told_of_the_end_finds_it_ended():
    looked = threading.Event()

    class WithASlowEnd(LogStream):
        def _read(self, lines):
            super()._read(lines)
            looked.wait(20)

    stream = WithASlowEnd(iter(()), source="the source")
    with pytest.raises(StackError, match="has ended"):
        stream.wait_for_event(event_with(event="never"))
    assert stream.wait_ended(0)
    looked.set()
