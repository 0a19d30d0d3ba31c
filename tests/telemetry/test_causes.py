"""What is an exception's own, and what says no more than that the client has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import trio

from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.telemetry.causes import comes_from, is_due_to_disconnect, lacks_asyncio


class WebSocketDisconnect(Exception):
    """As Starlette's and Litestar's are called."""


class Wrapped(Exception):
    """What a framework or an application makes of it."""


def raised(raising: Callable[[], object]) -> BaseException:
    try:
        raising()
    except BaseException as error:
        return error
    raise AssertionError


def while_handling(first: BaseException, then: BaseException) -> BaseException:
    def raising() -> None:
        try:
            raise first
        except BaseException:
            raise then

    return raised(raising)


def raised_from(first: BaseException, then: BaseException) -> BaseException:
    def raising() -> None:
        try:
            raise first
        except BaseException as error:
            raise then from error

    return raised(raising)


def chain(length: int) -> BaseException:
    error: BaseException = PeerGone()
    for _ in range(length):
        outer = Wrapped()
        outer.__cause__ = error
        error = outer
    return error


def circle() -> BaseException:
    one, other = Wrapped(), Wrapped()
    one.__context__, other.__context__ = other, one
    return one


class Vicious(Exception):
    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override]
        raise ValueError


@pytest.mark.parametrize(
    "error",
    [
        PeerGone(),
        asyncio.CancelledError(),
        WebSocketDisconnect(),
        type("ClientDisconnectedError", (Exception,), {})(),
        type("Subclass", (WebSocketDisconnect,), {})(),
        raised_from(PeerGone(), Wrapped()),
        raised_from(PeerGone(), KeyError()),
        while_handling(PeerGone(), Wrapped()),
        while_handling(WebSocketDisconnect(), RuntimeError("Cannot call send")),
        while_handling(while_handling(PeerGone(), WebSocketDisconnect()), Wrapped()),
        ExceptionGroup("several", [WebSocketDisconnect(), PeerGone()]),
        BaseExceptionGroup("several", [asyncio.CancelledError(), PeerGone()]),
        ExceptionGroup("several", [ExceptionGroup("more", [WebSocketDisconnect()])]),
        chain(50),
        ConnectionError("the client disconnected"),
        RuntimeError('Cannot call "receive" once a disconnect message has been received.'),
    ],
    ids=repr,
)
def test_what_says_that_the_client_has_left(error: BaseException):
    assert is_due_to_disconnect(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        OSError(),
        ConnectionResetError(),
        type("ServerDisconnectedError", (OSError,), {})(),
        Wrapped(),
        raised_from(ValueError(), Wrapped()),
        # A mistake in what handles the end.
        while_handling(PeerGone(), KeyError("x")),
        while_handling(WebSocketDisconnect(), TypeError()),
        while_handling(WebSocketDisconnect(), AttributeError()),
        ExceptionGroup("several", [WebSocketDisconnect(), ValueError()]),
        ExceptionGroup("several", [PeerGone(), ExceptionGroup("more", [ValueError()])]),
        circle(),
        chain(1000),
        Vicious(),
    ],
    ids=repr,
)
def test_what_is_a_failure_of_its_own(error: BaseException):
    assert not is_due_to_disconnect(error)


def test_deep_groups_have_an_end():
    error: Exception = PeerGone()
    for _ in range(5000):
        error = ExceptionGroup("deep", [error])
    assert not is_due_to_disconnect(error)


def test_what_an_exception_comes_from():
    assert comes_from(PeerGone(), ConnectionError)
    assert comes_from(while_handling(PeerGone(), KeyError()), PeerGone)
    assert not comes_from(KeyError(), PeerGone)


NO_LOOP = RuntimeError("no running event loop")


@pytest.mark.parametrize(
    "error",
    [
        NO_LOOP,
        RuntimeError("There is no current event loop in thread 'MainThread'."),
        raised_from(NO_LOOP, Wrapped()),
        while_handling(NO_LOOP, Wrapped()),
        ExceptionGroup("of tasks", [ValueError(), ExceptionGroup("more", [NO_LOOP])]),
        raised_from(ExceptionGroup("of tasks", [NO_LOOP]), Wrapped()),
    ],
    ids=repr,
)
def test_what_lacks_a_loop_of_asyncio(error: BaseException):
    assert lacks_asyncio(error)


def test_what_trio_says_of_a_future():
    async def whole() -> None:
        loop = asyncio.new_event_loop()
        try:
            await loop.create_future()
        finally:
            loop.close()

    with pytest.raises(TypeError) as caught:
        trio.run(whole)
    assert lacks_asyncio(caught.value)


class Unspeakable(RuntimeError):
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no loop"), ValueError("no running event loop"), TypeError(), Unspeakable()],
    ids=type,
)
def test_what_lacks_something_else(error: BaseException):
    assert not lacks_asyncio(error)
