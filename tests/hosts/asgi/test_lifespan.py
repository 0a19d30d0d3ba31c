"""Startup before the first request, shutdown after the last, and the state that requests share."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from integration.asgi.apps.cancellations import kept_cancellation
from tests.asgi_messages import answer
from tests.bridge import LOOPS, on_each_loop, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet, read_answer
from uwsgibridge import ApplicationError

# For a deadline that is meant to pass.
SHORT_SECONDS = 0.25


def application(lifespan: Callable[..., Any]) -> Callable[..., Any]:
    """Make an application of a lifespan function, which answers each request."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await lifespan(scope, receive, send)
        else:
            await answer(send)

    return app


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError("no word")


async def well_behaved(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})


@on_each_loop
@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_comes_before_the_first_request_and_shutdown_after_the_last(loop: str, mode: str):
    order: queue.SimpleQueue[str] = queue.SimpleQueue()
    scopes: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            scopes.put(dict(scope))
            order.put((await receive())["type"])
            await send({"type": "lifespan.startup.complete"})
            order.put((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
        else:
            order.put("request begins")
            while (await receive()).get("more_body"):
                pass
            order.put("request ends")
            await answer(send)

    with (
        running(app, loop=loop, lifespan=mode) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=1))
        assert order.get(timeout=PATIENCE_SECONDS) == "lifespan.startup"
        assert order.get(timeout=PATIENCE_SECONDS) == "request begins"
        bridge.begin_stop()
        connection.sendall(b"x")
        assert read_answer(connection).body == b"served"
        bridge.wait_stopped()

    assert order.get(timeout=0) == "request ends"
    assert order.get(timeout=0) == "lifespan.shutdown"
    assert order.empty()
    assert scopes.get(timeout=0) == {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": {},
    }
    assert scopes.empty()
    assert bridge.events.find() == []


@on_each_loop
def test_mode_off_sends_nothing(loop: str):
    types: list[str] = []

    async def app(scope, receive, send):
        types.append(scope["type"])
        await answer(send)

    with running(app, loop=loop, lifespan="off") as bridge:
        assert bridge.ask().body == b"served"

    assert types == ["http"]


@on_each_loop
def test_each_request_gets_a_shallow_copy_of_the_state(loop: str):
    shared = ["shared"]
    seen: list[dict[str, Any]] = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            scope["state"].update(shared=shared, number=1)
            await well_behaved(scope, receive, send)
        else:
            seen.append(dict(scope["state"]))
            scope["state"]["number"] += 1
            scope["state"]["of this request"] = True
            await answer(send)

    with running(app, loop=loop) as bridge:
        bridge.ask()
        bridge.ask()

    assert seen == [{"shared": shared, "number": 1}] * 2
    assert seen[1]["shared"] is shared


@on_each_loop
def test_application_that_raises_before_the_event_has_no_lifespan_and_this_is_told(loop: str):
    async def lifespan(scope, receive, send):
        raise ValueError("only http")

    with running(application(lifespan), loop=loop) as bridge:
        assert bridge.ask().body == b"served"

    (event,) = bridge.events.find(event="application has no lifespan events")
    assert event["level"] == "info"
    assert "only http" in event["reason"]
    assert bridge.events.find(level="error") == []


@on_each_loop
def test_application_that_takes_everything_for_a_request_has_no_lifespan(loop: str):
    """It does not look at the scope's type, receives, and answers."""

    async def app(scope, receive, send):
        assert (await receive()).get("body", b"") == b""
        await answer(send)

    with running(app, loop=loop) as bridge:
        assert bridge.ask().body == b"served"

    (event,) = bridge.events.find(event="application has no lifespan events")
    assert "'http.response.start' is not expected here" in event["reason"]
    assert bridge.events.find(level="error") == []


@on_each_loop
@pytest.mark.parametrize("is_late", [False, True], ids=["at-once", "later"])
def test_startup_that_raises_after_the_event_is_an_error(loop: str, is_late: bool):
    async def lifespan(scope, receive, send):
        await receive()
        if is_late:
            await anyio.lowlevel.checkpoint()
        raise ConnectionRefusedError("no database")

    error = startup_error(lifespan, loop)

    assert "it raised when it had received lifespan.startup" in str(error)
    assert "--lifespan off" in str(error)
    assert error.traceback_text.startswith("Traceback")
    assert "ConnectionRefusedError: no database" in error.traceback_text
    files = [line for line in error.traceback_text.splitlines() if line.startswith("  File ")]
    assert all("/uwsgibridge/" not in line for line in files)


@pytest.mark.parametrize("loop", LOOPS[1:])
@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_that_awaits_something_cancelled_is_an_error(loop: str, mode: str):
    async def lifespan(scope, receive, send):
        await receive()
        task = asyncio.ensure_future(asyncio.sleep(1))
        task.cancel()
        await task

    error = startup_error(lifespan, loop, lifespan=mode)

    assert "CancelledError" in error.traceback_text


@on_each_loop
@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_that_raises_a_cancellation_of_another_scope_is_an_error(loop: str, mode: str):
    kept = kept_cancellation()

    async def lifespan(scope, receive, send):
        await receive()
        raise kept

    error = startup_error(lifespan, loop, lifespan=mode)

    assert "trio.Cancelled" in error.traceback_text


@on_each_loop
def test_application_that_returns_at_once_is_served_in_auto(loop: str):
    async def lifespan(scope, receive, send):
        pass

    with running(application(lifespan), loop=loop) as bridge:
        assert bridge.ask().body == b"served"

    (event,) = bridge.events.find(event="application has no lifespan events")
    assert "returned" in event["reason"]


def startup_error(function: Callable[..., Any], loop: str, **settings: Any) -> ApplicationError:
    """Run the bridge, which must not come up."""
    with (
        pytest.raises(ApplicationError) as raised,
        running(application(function), loop=loop, **settings),
    ):
        raise AssertionError("it was served")
    return raised.value


@on_each_loop
def test_mode_on_demands_a_lifespan(loop: str):
    async def lifespan(scope, receive, send):
        raise ValueError("only http")

    error = startup_error(lifespan, loop, lifespan="on")

    assert "--lifespan on" in str(error)
    assert "ValueError: only http" in error.traceback_text
    files = [line for line in error.traceback_text.splitlines() if line.startswith("  File ")]
    assert __file__ in files[0]


@on_each_loop
@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize(
    ("message", "told"), [("no database", "no database"), ("", "it gave no message")]
)
def test_startup_that_failed_is_an_error_in_each_mode(
    loop: str, mode: str, message: str, told: str
):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": message})

    error = startup_error(lifespan, loop, lifespan=mode)

    assert str(error) == f"the application's startup failed: {told}"


@on_each_loop
@pytest.mark.parametrize("is_late", [False, True], ids=["at-once", "later"])
def test_what_is_raised_after_the_word_of_failure_is_told(loop: str, is_late: bool):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        if is_late:
            await anyio.sleep(SHORT_SECONDS)
        raise ConnectionRefusedError("at 127.0.0.1:5432")

    error = startup_error(lifespan, loop)

    assert str(error) == "the application's startup failed: no database"
    assert "ConnectionRefusedError: at 127.0.0.1:5432" in error.traceback_text


@on_each_loop
def test_exception_without_words_is_no_lifespan_as_well(loop: str):
    class Wordless(Unspeakable, Exception):
        __str__ = Unspeakable.__repr__

    async def lifespan(scope, receive, send):
        raise Wordless

    with running(application(lifespan), loop=loop) as bridge:
        assert bridge.ask().body == b"served"

    (event,) = bridge.events.find(event="application has no lifespan events")
    assert event["reason"] == "Wordless, whose message can't be shown: ValueError"


@on_each_loop
@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
def test_exception_that_is_the_word_of_failure_is_told(loop: str, raises: bool):
    """Applications that write their lifespan themselves give what they have caught."""

    async def lifespan(scope, receive, send):
        await receive()
        failure = ConnectionRefusedError("at 127.0.0.1:5432")
        await send({"type": "lifespan.startup.failed", "message": failure})
        if raises:
            raise failure

    error = startup_error(lifespan, loop)

    assert str(error) == (
        "the application's startup failed: ConnectionRefusedError: at 127.0.0.1:5432"
    )
    assert bool(error.traceback_text) is raises


@on_each_loop
@pytest.mark.parametrize(
    ("message", "says"),
    [
        (None, "a message is a dict, not None"),
        ({"typ": "lifespan.startup.complete"}, "a message has a 'type' that is a str"),
        (
            {"type": "lifespan.startup.failed", "message": Unspeakable()},
            "the 'message' of lifespan.startup.failed is of type Unspeakable",
        ),
    ],
    ids=["none", "typeless", "unspeakable"],
)
def test_message_that_is_none_is_told_in_words(loop: str, message: Any, says: str):
    async def lifespan(scope, receive, send):
        await receive()
        await send(message)

    assert says in startup_error(lifespan, loop).traceback_text


@on_each_loop
def test_traceback_that_is_a_message_is_told_once(loop: str):
    """As Starlette has it."""

    async def lifespan(scope, receive, send):
        await receive()
        try:
            raise ConnectionRefusedError("no database")
        except ConnectionRefusedError:
            message = traceback.format_exc()
            await send({"type": "lifespan.startup.failed", "message": message})
            raise

    error = startup_error(lifespan, loop)

    assert str(error) == "the application's startup failed"
    assert error.traceback_text.count("ConnectionRefusedError: no database") == 1


@on_each_loop
def test_application_that_goes_on_after_its_word_of_failure_is_not_waited_for(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        await receive()

    begin = monotonic()
    assert str(startup_error(lifespan, loop)).endswith("startup failed: no database")
    assert monotonic() - begin < PATIENCE_SECONDS


@on_each_loop
def test_failure_is_told_where_its_end_takes_too_long(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        await anyio.sleep_forever()

    error = startup_error(lifespan, loop, lifespan_timeout_seconds=SHORT_SECONDS)

    assert str(error).endswith("startup failed: no database")


@on_each_loop
def test_startup_has_a_deadline(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        await receive()

    error = startup_error(lifespan, loop, lifespan_timeout_seconds=SHORT_SECONDS)

    assert "longer than 0.25 s (--lifespan-timeout-seconds)" in str(error)


@on_each_loop
def test_exit_in_startup_is_an_error_of_the_application(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        sys.exit("no configuration")

    error = startup_error(lifespan, loop, lifespan="on")

    assert "SystemExit: no configuration" in error.traceback_text


@on_each_loop
def test_message_out_of_order_is_refused(loop: str):
    errors: list[Exception] = []

    async def lifespan(scope, receive, send):
        async def attempt(*kinds: str) -> None:
            for kind in kinds:
                try:
                    await send({"type": kind})
                except RuntimeError as error:
                    errors.append(error)

        await attempt("lifespan.shutdown.complete", "http.oops")
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await attempt("lifespan.startup.complete", "lifespan.startup.failed")
        await receive()
        await attempt("lifespan.startup.complete")

    with running(application(lifespan), loop=loop, lifespan="on") as bridge:
        assert bridge.ask().body == b"served"

    assert ["is not expected here" in str(error) for error in errors] == [True] * 5


@on_each_loop
@pytest.mark.parametrize("mode", ["auto", "on"])
def test_answer_may_come_before_the_event_is_asked_for(loop: str, mode: str):
    received: list[str] = []

    async def lifespan(scope, receive, send):
        scope["state"]["started"] = True
        await send({"type": "lifespan.startup.complete"})
        for _ in range(2):
            received.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})
        received.append("over")

    with running(application(lifespan), loop=loop, lifespan=mode) as bridge:
        assert bridge.ask().body == b"served"

    assert received == ["lifespan.startup", "lifespan.shutdown", "over"]
    assert bridge.events.find() == []


@on_each_loop
def test_failure_may_come_before_the_event_is_asked_for(loop: str):
    async def lifespan(scope, receive, send):
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    assert str(startup_error(lifespan, loop)).endswith("startup failed: no database")


@on_each_loop
def test_traceback_of_a_broken_rule_has_none_of_our_frames(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "http.oops"})

    text = startup_error(lifespan, loop, lifespan="on").traceback_text

    files = [line for line in text.splitlines() if line.startswith("  File ")]
    assert [__file__ in line for line in files] == [True, True]
    assert "'http.oops' is not expected here" in text


@on_each_loop
def test_other_applications_are_stopped_when_one_can_not_start(loop: str):
    stopped = threading.Event()

    async def stops(scope, receive, send):
        await well_behaved(scope, receive, send)
        stopped.set()

    async def fails(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with (
        pytest.raises(ApplicationError, match="no database"),
        running(application(stops), loop=loop, mounts={"/fails": application(fails)}),
    ):
        raise AssertionError("it was served")

    assert stopped.is_set()


@on_each_loop
def test_mounted_applications_each_have_their_state(loop: str):
    def with_state(name):
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                scope["state"]["name"] = name
                await well_behaved(scope, receive, send)
            else:
                await answer(send, scope["state"]["name"])

        return app

    with running(with_state(b"one"), loop=loop, mounts={"/two": with_state(b"two")}) as bridge:
        assert bridge.ask("/").body == b"one"
        assert bridge.ask("/two").body == b"two"


@on_each_loop
def test_shutdown_that_failed_is_logged(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "still connected"})

    with running(application(lifespan), loop=loop) as bridge:
        pass

    (event,) = bridge.events.find(level="error")
    assert event["event"] == "application's shutdown failed"
    assert event["detail"] == "still connected"


@on_each_loop
@pytest.mark.parametrize(
    ("word", "detail"),
    [(ValueError("still connected"), "ValueError: still connected"), (Unspeakable(), None)],
    ids=["exception", "unspeakable"],
)
def test_word_of_a_failed_shutdown_that_is_no_text_is_told_as_well(
    loop: str, word: object, detail: str | None
):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": word})

    with running(application(lifespan), loop=loop) as bridge:
        pass

    (event,) = bridge.events.find(level="error")
    assert event["event"] == "application's shutdown failed"
    assert event.get("detail") == detail
    assert detail or "is of type Unspeakable" in event["traceback"]


@on_each_loop
@pytest.mark.parametrize("is_late", [False, True], ids=["at-once", "later"])
def test_shutdown_that_failed_and_raised_is_logged_once_with_both(loop: str, is_late: bool):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "still connected"})
        if is_late:
            await anyio.sleep(SHORT_SECONDS)
        raise ValueError("by two")

    with running(application(lifespan), loop=loop) as bridge:
        pass

    (event,) = bridge.events.find(level="error")
    assert event["event"] == "application's shutdown failed"
    assert event["detail"] == "still connected"
    assert "ValueError: by two" in event["traceback"]


@on_each_loop
def test_shutdown_that_raises_is_logged_with_its_traceback(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ValueError("still connected")

    with running(application(lifespan), loop=loop) as bridge:
        pass

    (event,) = bridge.events.find(level="error")
    assert event["event"] == "application's shutdown failed"
    assert "ValueError: still connected" in event["traceback"]


@on_each_loop
def test_lifespan_that_dies_while_serving_is_logged(loop: str):
    started = threading.Event()

    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        started.set()
        raise ValueError("the background task died")

    with running(application(lifespan), loop=loop) as bridge:
        assert started.wait(PATIENCE_SECONDS)
        assert bridge.ask().body == b"served"

    (event,) = bridge.events.find(level="error")
    assert "the background task died" in str(event)


@pytest.mark.parametrize("loop", [it for it in LOOPS if it != "trio"])
def test_a_lifespan_that_a_request_has_cancelled_is_told(loop: str):
    """Handlers cancel all tasks, and forget that this one is among them."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await well_behaved(scope, receive, send)
            return
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await answer(send)

    with running(app, loop=loop) as bridge:
        assert bridge.ask().body == b"served"
        event = bridge.events.wait(level="error")
        assert event["event"] == "application's lifespan ended while serving"
        assert "CancelledError" in event["traceback"]
        assert "well_behaved" in event["traceback"]
        assert "cancel" in event["hint"]
        assert bridge.ask().body == b"served"

    assert len(bridge.events.find(level="error")) == 1


@pytest.mark.parametrize("loop", [it for it in LOOPS if it != "trio"])
def test_a_lifespan_that_is_cancelled_at_the_end_is_not_told(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await asyncio.sleep(PATIENCE_SECONDS * 10)

    with running(
        application(lifespan), loop=loop, lifespan_timeout_seconds=SHORT_SECONDS
    ) as bridge:
        assert bridge.ask().body == b"served"

    (event,) = bridge.events.find(level="error")
    assert event["event"] == "application's shutdown took too long"


# Applications that are written for asyncio.

WITHOUT_TRIO = "leave out --loop trio"


@pytest.mark.parametrize("needs", ["task", "future"])
def test_a_lifespan_that_needs_asyncio_names_the_option(needs: str):
    async def lifespan(scope, receive, send):
        await receive()
        if needs == "future":
            other = asyncio.new_event_loop()
            with contextlib.closing(other):
                await other.create_future()
        await asyncio.sleep(1)

    error = startup_error(lifespan, "trio")
    assert WITHOUT_TRIO in str(error)
    assert "--lifespan off" not in str(error)


def test_a_lifespan_that_needs_asyncio_and_says_so_itself_names_the_option():
    async def lifespan(scope, receive, send):
        await receive()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
            raise

    assert WITHOUT_TRIO in str(startup_error(lifespan, "trio"))


def test_a_lifespan_that_needs_asyncio_before_its_event_names_the_option():
    async def lifespan(scope, receive, send):
        asyncio.get_running_loop()

    assert WITHOUT_TRIO in str(startup_error(lifespan, "trio", lifespan="on"))
    with running(application(lifespan), loop="trio") as bridge:
        pass
    (event,) = bridge.events.find(event="application has no lifespan events")
    assert WITHOUT_TRIO in event["reason"]


@on_each_loop
def test_a_missing_loop_elsewhere_does_not_name_the_option(loop: str):
    """As in a thread of the application's own."""

    async def lifespan(scope, receive, send):
        await receive()
        if loop == "trio":
            raise RuntimeError("another reason")
        await asyncio.to_thread(asyncio.get_running_loop)

    assert "trio" not in str(startup_error(lifespan, loop))


@on_each_loop
def test_shutdown_has_a_deadline(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await receive()

    with running(
        application(lifespan), loop=loop, lifespan_timeout_seconds=SHORT_SECONDS
    ) as bridge:
        pass

    (event,) = bridge.events.find(level="error")
    assert event["event"] == "application's shutdown took too long"
    assert event["option"] == "--lifespan-timeout-seconds"


@on_each_loop
def test_shutdown_without_an_answer_is_fine_when_it_returns(loop: str):
    async def lifespan(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()

    with running(application(lifespan), loop=loop) as bridge:
        pass

    assert bridge.events.find() == []
