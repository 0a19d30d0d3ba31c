"""What a worker says to its supervisor without being asked."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.link.inquiries import Inquiry, read_answer
from uwsgibridge.link.messages import MAX_BYTES, WorkerMessage
from uwsgibridge.loop.interface import Watch
from uwsgibridge.system.memory_file import make_memory_file
from uwsgibridge.worker.requests_underway import Placed
from uwsgibridge.worker.supervisor_link import WorkerLink
from uwsgibridge.worker.worker import Worker


@pytest.fixture
def ends() -> Iterator[tuple[WorkerLink, socket.socket]]:
    """The link, and the supervisor's end of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.settimeout(20)
    link = WorkerLink(ours, FlightRecorder(), 0)
    with theirs:
        yield link, theirs
    link.detach()


def heard(theirs: socket.socket) -> WorkerMessage:
    return WorkerMessage.decode(theirs.recv(MAX_BYTES))


def test_it_says_that_it_has_enough(ends: tuple[WorkerLink, socket.socket]) -> None:
    link, theirs = ends
    link.enough()
    assert heard(theirs) == WorkerMessage(has_enough=True)


def test_it_says_why_it_is_to_be_replaced(ends: tuple[WorkerLink, socket.socket]) -> None:
    link, theirs = ends
    assert link.unfit("a reason")
    assert heard(theirs) == WorkerMessage(unfit="a reason")


def test_nobody_replaces_it_where_the_supervisor_is_gone(
    ends: tuple[WorkerLink, socket.socket],
) -> None:
    link, theirs = ends
    theirs.close()
    assert not link.unfit("a reason")
    link.enough()  # says nothing, and does no harm


def test_nobody_replaces_it_where_the_supervisor_does_not_listen(
    ends: tuple[WorkerLink, socket.socket],
) -> None:
    link, theirs = ends
    while link.unfit("a reason"):
        pass
    assert heard(theirs).unfit == "a reason"
    assert link.unfit("a reason")


class Asked:
    """A worker that is asked for nothing but its requests."""

    def underway(self) -> list[Placed]:
        return []


@pytest.mark.parametrize(
    ("subject", "answer"),
    [
        ("requests", {"requests": [], "left_out": 0}),
        ("weather", {"error": "this worker is older, and does not know it"}),
    ],
)
def test_a_long_answer_is_written_into_the_file_that_comes_with_the_question(
    ends: tuple[WorkerLink, socket.socket], subject: str, answer: object
) -> None:
    link, theirs = ends
    link._worker = cast("Worker", Asked())
    link._watch = cast("Watch", object())
    file = make_memory_file("test")
    arguments = {"limit": 3, "older_seconds": 0.0, "with_stacks": False}
    socket.send_fds(theirs, [Inquiry(5, subject, arguments).encode()], [file])
    socket.send_fds(theirs, [b"junk"], [file])
    gc.collect()  # what other tests have left behind may have descriptors
    before = len(list(Path("/dev/fd").iterdir()))
    link.catch_up()
    assert heard(theirs) == WorkerMessage(answered=5)
    assert read_answer(file) == answer
    os.close(file)
    assert len(list(Path("/dev/fd").iterdir())) == before - 1  # the worker keeps none of them
    link._watch = None
