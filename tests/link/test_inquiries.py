"""Questions with long answers: their bytes, and the memory files that the answers come in."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from uwsgibridge.link import inquiries
from uwsgibridge.link.inquiries import Inquiry, read_answer, write_answer
from uwsgibridge.system.memory_file import make_memory_file


@pytest.fixture
def file() -> Iterator[int]:
    descriptor = make_memory_file("test")
    yield descriptor
    os.close(descriptor)


def test_a_question_is_read_as_it_was_asked() -> None:
    inquiry = Inquiry(7, "requests", {"limit": 3})
    assert Inquiry.decode(inquiry.encode()) == inquiry


@pytest.mark.parametrize(
    "data", [b"", b"ping", b"[]", b'{"inquiry": 1}', b'{"inquiry": {"number": "x"}}', b"\xff"]
)
def test_other_bytes_are_no_question(data: bytes) -> None:
    assert Inquiry.decode(data) is None


def test_an_answer_may_be_longer_than_a_message(file: int) -> None:
    answer = {"requests": [{"path": "/é" * 1_000}] * 100}
    write_answer(file, answer)
    assert read_answer(file) == answer


def test_an_answer_that_is_too_long_is_an_error(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiries, "MAX_ANSWER_BYTES", 100)
    write_answer(file, {"requests": ["x" * 101]})
    assert read_answer(file) == {"error": "the answer has over 100 bytes"}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_answer_is_none(file: int, data: bytes) -> None:
    os.pwrite(file, data, 0)
    assert read_answer(file) is None
