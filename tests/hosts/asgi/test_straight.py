"""What `receive` and `send` give is a coroutine, whoever does the work: the accelerator in the plain case, or Python."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.asgi_conversation import Conversation
from tests.asgi_messages import START, answer, body, start
from tests.asked_admission import seen_by_who_asks
from tests.bridge import on_each_loop, running
from uwsgibridge.hosts.offload import Offload
from uwsgibridge.protocol.errors import InvalidResponse

# Only with the accelerator is there such a way.
pytestmark = pytest.mark.each("either_way")

Application = Callable[[Any, Any, Any], Awaitable[object]]


def converse(application: Application, **options: Any) -> Conversation:
    """Have an application converse, and see that it has raised nothing."""
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await application(scope, receive, send)
        except BaseException as error:
            raised.append(error)
            raise

    conversation = Conversation(app, **options)
    conversation.run()
    if raised:
        raise raised[0]
    return conversation


@on_each_loop
def test_messages_are_received_and_sent_in_tasks_of_their_own(loop: str) -> None:
    """As frameworks do that wait for something else meanwhile."""

    async def on_asyncio(receive: Any, send: Any) -> None:
        received = await asyncio.wait_for(receive(), 10)
        await asyncio.create_task(send(start(200, (b"x-body", received["body"]))))
        await asyncio.gather(send(message=body(b"sent")))

    async def on_trio(receive: Any, send: Any) -> None:
        received: list[Any] = []

        async def receive_one() -> None:
            received.append(await receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, start(200, (b"x-body", received[0]["body"])))
        with trio.fail_after(10):
            await send(message=body(b"sent"))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (on_trio if loop == "trio" else on_asyncio)(receive, send)

    with running(app, loop=loop, lifespan="off") as bridge:
        answered = bridge.ask(body=b"given", CONTENT_LENGTH="5")
    assert (answered.headers["x-body"], answered.body) == ("given", b"sent")


def test_a_task_of_asyncio_that_waits_to_receive_shows_its_stack() -> None:
    """Nothing of what looks at a task may fail, as where a task is shown in a log."""
    shown: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        shown.append(repr(task))
        task.get_stack()
        task.print_stack()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await answer(send)

    with running(app, loop="asyncio", lifespan="off") as bridge:
        assert bridge.ask().body == b"served"
    assert "receive" in shown[0]


# From Python 3.14 on; libraries for earlier ones still ask so.
@pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction':DeprecationWarning")
def test_what_is_given_is_a_coroutine() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        for made in (receive(), send(START)):
            assert inspect.isawaitable(made)
            assert isinstance(made, Coroutine)
            assert asyncio.iscoroutine(made)
            made.close()
        assert (receive().__name__, send(START).__qualname__) == ("receive", "HttpExchange.send")
        assert asyncio.iscoroutinefunction(receive)
        assert asyncio.iscoroutinefunction(send)
        assert send.__name__ == "send"
        await answer(send)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert converse(application).received.endswith(b"served")


def test_work_is_done_at_the_first_step_and_not_at_the_call() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        send(start(500)).close()
        later = send(body(b"in order"))
        await send(start(201))
        await later

    assert converse(application).received.startswith(b"HTTP/1.1 201 ")


def test_a_coroutine_that_is_never_awaited_is_warned_of() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        with pytest.warns(RuntimeWarning, match=r"'HttpExchange\.send' was never awaited"):
            send(start(500))
        with pytest.warns(RuntimeWarning, match=r"'HttpExchange\.receive' was never awaited"):
            receive()
        await answer(send)

    assert converse(application).received.startswith(b"HTTP/1.1 200 ")


def test_a_coroutine_is_awaited_once() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        for made in (receive(), send(START), send(start(500))):
            with suppress(InvalidResponse):  # of the second head
                await made
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await made
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                made.throw(ValueError)
            made.close()
        await send(body())

    assert converse(application).received.startswith(b"HTTP/1.1 200 ")


def test_a_coroutine_is_driven_by_hand() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        made = send(START)
        with pytest.raises(TypeError, match="just-started"):
            made.send(1)
        with pytest.raises(StopIteration) as stopped:
            made.send(None)
        assert stopped.value.value is None
        with pytest.raises(StopIteration) as stopped:
            receive().send(None)
        assert stopped.value.value == {"type": "http.request", "body": b"", "more_body": False}
        with pytest.raises(KeyError):
            send(body()).throw(KeyError("thrown"))
        with pytest.raises(RuntimeError, match="sent twice"):
            send(START).send(None)
        await send(body(b"at the end"))

    assert converse(application).received.endswith(b"at the end")


@pytest.mark.parametrize("arguments", [(), (START, START)])
def test_send_takes_one_message(arguments: tuple[Any, ...]) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(TypeError):
            send(*arguments)
        with pytest.raises(TypeError):
            send(massage=START)
        with pytest.raises(TypeError):
            receive(START)
        await answer(send)

    assert converse(application).received.endswith(b"served")


@pytest.mark.parametrize("logs_access", [False, True])
@pytest.mark.parametrize("family", ["unix", "tcp"])
@pytest.mark.parametrize("size", [20_000, 65_536])
def test_an_answer_that_the_socket_takes_in_parts(
    size: int, family: str, logs_access: bool
) -> None:
    """What is sent the second time begins where the first time has ended."""
    sent = bytes(number % 251 for number in range(size))

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"x-a", b"b")))
        await send(body(sent))

    conversation = converse(
        application, family=family, send_buffer_bytes=2304, logs_access=logs_access
    )
    head = b"HTTP/1.1 200 OK\r\nx-a: b\r\nContent-Length: %d\r\n\r\n" % size
    assert conversation.received == head + sent
    assert not conversation.is_broken
    assert conversation.is_released
    assert conversation.accesses == ([(200, size, True)] if logs_access else [])


@pytest.mark.parametrize("logs_access", [False, True])
def test_a_client_that_leaves_before_the_answer(logs_access: bool) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        conversation.peer.close()
        await answer(send)

    conversation = Conversation(application, logs_access=logs_access)
    with pytest.raises(StopIteration):
        conversation.begin()
    assert conversation.exchange.connection.closed
    assert conversation.is_released
    assert conversation.context.reporter.counters.client_gone == 1
    assert conversation.accesses == ([(0, 0, False)] if logs_access else [])


def test_an_error_after_the_answer_is_logged() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)
        raise LookupError("late")

    conversation = Conversation(application)
    conversation.run()
    assert conversation.received.endswith(b"served")
    (event,) = conversation.events.find(level="error")
    assert event["outcome"] == "the answer was complete"


def test_the_answer_of_the_accelerator_goes_on_in_python() -> None:
    """A message that is not plain follows a head that was."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"x-a", b"b")))
        await send(body(b"one", more=True))
        await send(body(bytearray(b"two")))

    answered = converse(application).received
    assert answered == b"HTTP/1.1 200 OK\r\nx-a: b\r\n\r\nonetwo"


def test_a_file_is_left_to_nginx_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"of the file")
    named = str(tmp_path / "file").encode()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"x-sendfile", named)))
        await send(body(b"not this"))

    # A host without such directories sends the header, which is remembered from then on.
    assert b"x-sendfile" in converse(application).received
    for _ in range(3):
        conversation = converse(application, offload=Offload([("/files", str(tmp_path))]))
        assert b"\r\nX-Accel-Redirect: /files/file\r\n" in conversation.received
        assert b"not this" not in conversation.received


def test_a_large_head_is_warned_of_each_time() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"x-large", bytes(100).replace(b"\0", b"a"))))
        await send(body())

    for _ in range(3):
        (event,) = converse(application, frontend_buffer_bytes=100).events.find(level="warning")
        assert event["largest_header"] == "x-large"


def test_a_listener_that_waits_for_the_place_of_a_request_is_woken() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    conversation = Conversation(application)
    assert conversation.admission.wake_at(0)
    conversation.run()
    assert conversation.is_released
    assert conversation.woken == 1
    conversation = converse(application)
    assert (conversation.is_released, conversation.woken) == (True, 0)


def test_whether_a_listener_waits_is_looked_at_last() -> None:
    """Without the GIL, it may ask to be woken at any moment."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    conversation = Conversation(application)
    with seen_by_who_asks(conversation.admission) as seen:
        conversation.run()
    assert seen == [0]
