"""What a worker says to its supervisor without being asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.link.messages import MAX_BYTES, WorkerMessage
from uwsgibridge.worker.supervisor_link import WorkerLink


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
