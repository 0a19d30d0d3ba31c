"""The process: its event loop, its signals, its end, and what it takes over from who started it."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest

from tests.bridge import LOOPS
from tests.bridge_process import run_to_its_end, running_process
from tests.gil import looks_at_frames
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import Answer, ask, connect, packet, read_answer, read_until

APPS = '''
import atexit
import concurrent.futures
import json
import os
import subprocess
import sys
import threading
import time


def wsgi(environ, start_response):
    """Answer with the length of the body, and begin with its first byte."""
    stream = environ["wsgi.input"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] in {"/begun", "/hangs"}:
        yield b"begun "
    if environ["PATH_INFO"] == "/hangs":
        threading.Event().wait()
    size = 0
    while chunk := stream.read(65536):
        size += len(chunk)
    yield b"%d" % size


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print('{"event": "shutdown in the application"}', file=sys.stderr, flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] in {"/begun", "/hangs", "/thread"}:
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
    if scope["path"] == "/hangs":
        import anyio

        await receive()
        await receive()  # to be told of the stop, and to take no notice
        await anyio.sleep_forever()
    if scope["path"] == "/stubborn":
        import asyncio

        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass  # as code does that catches too much
    if scope["path"] == "/thread":
        if "trio" in sys.argv:
            import trio

            await trio.to_thread.run_sync(threading.Event().wait)
        else:
            import asyncio

            await asyncio.to_thread(threading.Event().wait)
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    if scope["path"] == "/loop":
        import sniffio

        name = sniffio.current_async_library()
        if name == "asyncio":
            import asyncio

            name = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        await send({"type": "http.response.body", "body": name.encode()})
    else:
        await send({"type": "http.response.body", "body": b"%d" % size})


def wsgi_interval(environ, start_response):
    start_response("200 OK", [])
    return [b"%g" % sys.getswitchinterval()]


async def asgi_interval(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%g" % sys.getswitchinterval()})


CHUNK = bytes(1 << 20)


def wsgi_download(environ, start_response):
    start_response("200 OK", [])
    for _ in range(int(environ["QUERY_STRING"])):
        yield CHUNK


async def asgi_download(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(scope["query_string"])):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


FINDS_IGNORED = """
import signal
names = [it.name for it in signal.Signals if signal.getsignal(it) == signal.SIG_IGN]
print(*sorted(set(names) - {"SIGPIPE", "SIGXFSZ", "SIGXFZ"}))  # Python's own
"""


def tell_ignored(when):
    program = (sys.executable, "-c", FINDS_IGNORED)
    names = subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()
    tell("ignored", when=when, names=names)


def tell(event, **values):
    sys.stderr.write(json.dumps({"event": event, **values}) + "\\n")


executor = concurrent.futures.ThreadPoolExecutor(1, "slow")


def lasting(environ, start_response):
    """Do what `what` has, and answer."""
    what = environ["PATH_INFO"]
    if what == "/print":
        print('{"event": "printed"}')
    elif what == "/print_to_nobody":
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
        sys.stdout.write("part of a line")
    elif what == "/ignored":
        tell_ignored("in a request")
    elif what == "/thread":
        executor.submit(threading.Event().wait)
    elif what == "/idle":
        executor.submit(os.getpid).result()
    elif what == "/own":
        wait = threading.Event().wait
        threading.Thread(target=wait, name="of the application", daemon=False).start()
    elif what == "/mail":
        threading.Thread(target=send_mail, name="of a request").start()
    elif what == "/argv":
        tell("argv", argv=sys.argv)
    elif what == "/hangs":
        tell("hangs")
        threading.Event().wait()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


def send_mail():
    """Do what an answer does not wait for, and be at it when Python ends."""
    threading.main_thread().join()
    time.sleep(0.1)  # a daemon is no more by then
    tell("sent")


def tell_ignored_at_exit():
    tell_ignored("in the hook")
    atexit.register(tell_ignored, "at the very end")


def looping_hook():
    """Run loops of its own, as one does that closes a pool of connections."""
    import asyncio

    import anyio

    asyncio.run(asyncio.sleep(0))
    anyio.run(anyio.sleep, 0)
    anyio.run(anyio.sleep, 0, backend="trio")
    tell("ran loops")


def hanging_hook():
    threading.Event().wait()


async def threads(scope, receive, send):
    import anyio.to_thread

    assert scope["type"] == "http"
    await anyio.to_thread.run_sync(os.getpid)
    if scope["path"].endswith("/hangs"):
        tell("hangs")
        await anyio.sleep_forever()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def hangs_in_startup(scope, receive, send):
    await receive()
    print('{"event": "in startup"}', file=sys.stderr, flush=True)
    await receive()


async def blocks_in_startup(scope, receive, send):
    await receive()
    print('{"event": "in startup"}', file=sys.stderr, flush=True)
    time.sleep(600)
'''

# The application, and the options that put it on each of the loops.
HOSTS = [
    pytest.param(("apps:wsgi",), id="wsgi"),
    *(
        pytest.param(("apps:asgi", "--loop", loop.values[0]), id=str(loop.values[0]))
        for loop in (
            it if isinstance(it, type(pytest.param())) else pytest.param(it) for it in LOOPS
        )
    ),
]

BINDS = ("--bind", "127.0.0.1:0", "--bind", "unix:app.sock", "--log-format", "json")

# By itself, and with a supervisor.
EVERY_COUNT = pytest.mark.parametrize("workers", ["0", "1"], ids=["unsupervised", "forked"])

# For a deadline that is meant to pass.
SHORT_SECONDS = "0.1"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "apps.py").write_text(APPS)
    return tmp_path


def lasting(directory: Path, workers: str, *options: str, app: str = "apps:lasting"):
    """Run what `lasting` is, as it is where nobody asks Python not to buffer."""
    return running_process(
        "serve", app, *BINDS, *options,
        directory=directory, environment={"UWSGIBRIDGE_WORKERS": workers, "PYTHONUNBUFFERED": ""},
    )  # fmt: skip


def addresses(process, directory: Path) -> list[str]:
    tcp, unix = process.wait_listening(2)
    assert unix == "unix:app.sock"
    return [tcp, f"unix:{directory / 'app.sock'}"]


# Stopping.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("host", HOSTS)
def test_signal_lets_running_requests_end(
    host: tuple[str, ...], number: signal.Signals, directory: Path
):
    with running_process("serve", *host, *BINDS, directory=directory) as process, ExitStack() as s:
        connections = [s.enter_context(connect(it)) for it in addresses(process, directory)]
        for connection in connections:
            connection.sendall(packet("/begun", method="POST", content_length=10))
            read_until(connection, b"begun ")
        process.signal(number)
        event = process.events.wait(event="stopping: running requests may end")
        for connection in connections:
            connection.sendall(bytes(10))
            assert read_until(connection, b"10") == b"10"
            assert connection.recv(1) == b""
        assert process.wait() == 0

    assert event["signal"] == number.name
    assert process.events.find()[-1]["event"] == "stopped"
    assert process.events.find(level="error") == []
    shutdowns = process.events.find(event="shutdown in the application")
    assert len(shutdowns) == ("asgi" in host[0])
    assert process.events.other_text() == ""
    assert not (directory / "app.sock").exists()


@pytest.mark.parametrize("host", HOSTS)
def test_second_signal_breaks_off(host: tuple[str, ...], directory: Path):
    with running_process("serve", *host, *BINDS, directory=directory) as process, ExitStack() as s:
        tcp, unix = (s.enter_context(connect(it)) for it in addresses(process, directory))
        for connection in (tcp, unix):
            connection.sendall(packet("/hangs"))
            read_until(connection, b"begun ")
        process.signal(signal.SIGTERM)
        process.events.wait(event="stopping: running requests may end")
        process.signal(signal.SIGINT)
        for connection in (tcp, unix):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert process.wait() == 0

    (event,) = process.events.find(event="stopping at once")
    assert event["signal"] == "SIGINT"
    (error,) = process.events.find(level="error")
    assert error["requests"] == 2
    assert process.events.other_text() == ""


@pytest.mark.parametrize("host", HOSTS)
def test_graceful_timeout_breaks_off(host: tuple[str, ...], directory: Path):
    options = ("--graceful-timeout-seconds", SHORT_SECONDS)
    with (
        running_process("serve", *host, *BINDS, *options, directory=directory) as process,
        ExitStack() as stack,
    ):
        tcp, unix = (stack.enter_context(connect(it)) for it in addresses(process, directory))
        for connection in (tcp, unix):
            connection.sendall(packet("/hangs"))
            read_until(connection, b"begun ")
        process.signal(signal.SIGTERM)
        for connection in (tcp, unix):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert process.wait() == 0

    (error,) = process.events.find(level="error")
    assert error["event"] == "requests were broken off: they did not end in time"
    assert error["requests"] == 2
    assert error["option"] == "--graceful-timeout-seconds"
    assert process.events.other_text() == ""


@pytest.mark.parametrize("loop", LOOPS)
def test_thread_of_the_application_that_never_ends_does_not_keep_the_process(
    loop: str, directory: Path
):
    options = ("--loop", loop, "--graceful-timeout-seconds", SHORT_SECONDS)
    with (
        running_process("serve", "apps:asgi", *BINDS, *options, directory=directory) as process,
        connect(addresses(process, directory)[0]) as connection,
    ):
        connection.sendall(packet("/thread"))
        read_until(connection, b"begun ")
        process.signal(signal.SIGTERM)
        process.wait()


@EVERY_COUNT
def test_thread_that_python_waits_for_does_not_keep_the_process(workers: str, directory: Path):
    options = ("--graceful-timeout-seconds", SHORT_SECONDS)
    with lasting(directory, workers, *options) as process:
        assert ask(addresses(process, directory)[0], "/thread").status == 200
        assert process.stop() == 0

    waiting, exiting = process.events.find(level="warning")
    assert waiting["event"] == "waiting for the application's threads"
    assert exiting["event"] == "exiting without waiting for the application's threads"
    assert waiting["threads"] == exiting["threads"] == ["slow_0"]
    assert process.events.find(level="error") == []
    assert process.events.other_text() == ""


@EVERY_COUNT
def test_thread_that_a_request_starts_is_waited_for(workers: str, directory: Path):
    """As one that the import starts: no word says that it is a daemon."""
    with lasting(directory, workers) as process:
        assert ask(addresses(process, directory)[0], "/mail").status == 200
        assert process.stop() == 0

    assert process.events.find(event="sent")
    assert process.events.find(level="error") == []


@EVERY_COUNT
def test_thread_of_the_application_is_waited_for_once_and_named(workers: str, directory: Path):
    """With what can be done about it; for the rest of the graceful time, in all that ends."""
    with lasting(directory, workers, "--graceful-timeout-seconds", "6") as process:
        assert ask(addresses(process, directory)[0], "/own").status == 200
        began = monotonic()
        assert process.stop() == 0
        assert 5.5 < monotonic() - began < 6 + PATIENCE_SECONDS / 3

    waiting, exiting = process.events.find(level="warning")
    assert waiting["event"] == "waiting for the application's threads"
    assert waiting["threads"] == exiting["threads"] == ["of the application"]
    assert 4 < waiting["seconds"] < 6
    assert "--on-worker-exit" in waiting["hint"]
    assert exiting["event"] == "exiting without waiting for the application's threads"


@EVERY_COUNT
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_idle_threads_of_pools_hold_nothing_up(workers: str, loop: str, directory: Path):
    """Of an executor and of anyio, as those of `def` endpoints; nor are they the application's."""
    app = ("--mount", "/asgi=apps:threads", "--loop", loop)
    with lasting(directory, workers, *app) as process:
        tcp = addresses(process, directory)[0]
        assert ask(tcp, "/idle").status == 200
        assert ask(tcp, "/asgi/idle").status == 200
        began = monotonic()
        assert process.stop() == 0
        assert monotonic() - began < PATIENCE_SECONDS / 3

    assert process.events.find(level="warning") == []
    assert process.events.other_text() == ""


@EVERY_COUNT
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_idle_threads_are_not_named_where_a_request_is_broken_off(
    workers: str, loop: str, directory: Path
):
    options = ("--loop", loop, "--graceful-timeout-seconds", SHORT_SECONDS)
    with (
        lasting(directory, workers, *options, app="apps:threads") as process,
        connect(addresses(process, directory)[0]) as connection,
    ):
        assert ask(addresses(process, directory)[0], "/idle").status == 200
        connection.sendall(packet("/hangs"))
        process.events.wait(event="hangs")
        assert process.stop() == 0

    assert process.events.find(level="warning") == []
    (error,) = process.events.find(level="error")
    assert error["event"] == "requests were broken off: they did not end in time"


@EVERY_COUNT
def test_second_signal_shortens_the_wait_for_threads(workers: str, directory: Path):
    with lasting(directory, workers, "--graceful-timeout-seconds", "600") as process:
        tcp = addresses(process, directory)[0]
        assert ask(tcp, "/thread").status == 200
        with connect(tcp) as connection:
            connection.sendall(packet("/hangs"))
            process.events.wait(event="hangs")
            process.signal(signal.SIGTERM)
            process.events.wait(event="stopping: running requests may end")
            process.signal(signal.SIGINT)
            assert process.wait() == 0


@EVERY_COUNT
@pytest.mark.parametrize(
    ("app", "path"), [("apps:asgi", "/thread"), ("apps:lasting", "/hangs"), ("apps:asgi", "/begun")]
)
def test_hook_may_run_loops_whatever_was_broken_off(
    workers: str, app: str, path: str, directory: Path
):
    options = ("--graceful-timeout-seconds", SHORT_SECONDS, "--on-worker-exit", "apps:looping_hook")
    with (
        lasting(directory, workers, *options, "--loop", "asyncio", app=app) as process,
        connect(addresses(process, directory)[0]) as connection,
    ):
        connection.sendall(packet(path, method="POST", content_length=10))
        if app == "apps:asgi":
            read_until(connection, b"begun ")
        else:
            process.events.wait(event="hangs")
        assert process.stop() == 0

    assert process.events.find(event="ran loops")
    assert process.events.other_text() == ""


@looks_at_frames
@EVERY_COUNT
def test_hook_that_never_ends_does_not_keep_the_process(workers: str, directory: Path):
    options = ("--graceful-timeout-seconds", SHORT_SECONDS, "--on-worker-exit", "apps:hanging_hook")
    with lasting(directory, workers, *options) as process:
        addresses(process, directory)
        assert process.stop() == 0

    (event,) = process.events.find(level="warning")
    assert event["event"] == "exiting without waiting for what the application does at the end"
    assert "in hanging_hook" in event["stack"]
    assert process.events.find(level="error") == []


@EVERY_COUNT
def test_end_beside_a_task_that_holds_on_has_nothing_to_name(workers: str, directory: Path):
    options = ("--request-timeout-seconds", "0.2", "--lifespan", "off", "--loop", "asyncio")
    with (
        lasting(directory, workers, *options, app="apps:asgi") as process,
        ExitStack() as stack,
    ):
        tcp = stack.enter_context(connect(addresses(process, directory)[0]))
        tcp.sendall(packet("/stubborn"))
        assert read_answer(tcp).status == 504
        process.events.wait(event="request goes on although its task was cancelled")
        assert process.stop() == 0

    warnings = {it["event"] for it in process.events.find(level="warning")}
    assert not {it for it in warnings if it.startswith("exiting")}


def test_lost_thread_is_told_by_the_status_whatever_else_goes_on(directory: Path):
    options = ("--request-timeout-seconds", "0.2", "--graceful-timeout-seconds", SHORT_SECONDS)
    mount = ("--mount", "/wsgi=apps:lasting")
    with (
        lasting(directory, "0", *options, *mount, app="apps:asgi") as process,
        ExitStack() as stack,
    ):
        tcp, unix = (stack.enter_context(connect(it)) for it in addresses(process, directory))
        tcp.sendall(packet("/thread"))
        read_until(tcp, b"begun ")
        unix.sendall(packet("/wsgi/hangs"))
        assert process.wait() == 1

    assert process.events.find(event="exiting without waiting for the application's threads")


@EVERY_COUNT
def test_output_that_nobody_reads_any_more_is_no_failure(workers: str, directory: Path):
    with lasting(directory, workers) as process:
        assert ask(addresses(process, directory)[0], "/print_to_nobody").status == 200
        assert process.stop() == 0

    assert process.events.find(level="error") == []
    assert process.events.other_text() == ""


def test_output_that_nobody_reads_does_not_keep_a_process_that_breaks_off(directory: Path):
    options = ("--graceful-timeout-seconds", SHORT_SECONDS)
    with lasting(directory, "0", *options) as process, ExitStack() as stack:
        tcp, unix = addresses(process, directory)
        assert ask(tcp, "/print_to_nobody").status == 200
        connection = stack.enter_context(connect(unix))
        connection.sendall(packet("/hangs"))
        process.events.wait(event="hangs")
        assert process.stop() == 0

    assert process.events.find(event="requests were broken off: they did not end in time")
    assert process.events.other_text() == ""


def test_idle_process_stops_at_once(directory: Path):
    with running_process("serve", "apps:asgi", *BINDS, directory=directory) as process:
        addresses(process, directory)
        assert process.stop() == 0

    assert [event["event"] for event in process.events.find(level="info")] == [
        "worker started",
        "started",
        "listening",
        "listening",
        "stopping: running requests may end",
        "stopped",
    ]
    assert process.events.other_text() == ""


@pytest.mark.parametrize("loop", LOOPS)
def test_signal_during_startup_stops(loop: str, directory: Path):
    with running_process(
        "serve", "apps:hangs_in_startup", "--loop", loop, *BINDS, directory=directory
    ) as process:
        process.events.wait(event="in startup")
        assert process.stop() == 0

    assert process.events.find(event="listening") == []
    assert process.events.other_text() == ""
    assert not (directory / "app.sock").exists()


TAKES_SIGNALS = """
import signal
import sys


def take(number, frame=None):
    print("taken by the application", flush=True)


def by_signal():
    signal.signal(signal.SIGTERM, take)


def by_asyncio():
    import asyncio

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, take, signal.SIGTERM)


def and_hands_on():
    former = signal.getsignal(signal.SIGTERM)

    def take_and_hand_on(number, frame):
        take(number)
        former(number, frame)

    signal.signal(signal.SIGTERM, take_and_hand_on)


def and_exits():
    def take_and_exit(number, frame):
        take(number)
        sys.exit(1)

    signal.signal(signal.SIGTERM, take_and_exit)


def taking(take_signals):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
            await receive()
            await send({"type": "http.response.body", "body": b"and ended"})
            return
        await receive()
        take_signals()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return app
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("way", ["by_signal", "and_hands_on", "and_exits", "by_asyncio"])
def test_signal_that_the_application_takes_in_its_startup_lets_running_requests_end(
    way: str, workers: str, loop: str, directory: Path
):
    """Without a supervisor, nobody else would stop the process."""
    if (way, loop) == ("by_asyncio", "trio"):
        pytest.skip("trio has no such method")
    (directory / "takes_signals.py").write_text(TAKES_SIGNALS + f"\n\napp = taking({way})\n")
    options = ("--loop", loop, "--workers", workers)
    with (
        running_process(
            "serve", "takes_signals:app", *options, *BINDS, directory=directory
        ) as process,
        connect(addresses(process, directory)[0]) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=1))
        read_until(connection, b"begun ")
        process.signal(signal.SIGTERM)
        process.events.wait(event="stopping: running requests may end", signal="SIGTERM")
        connection.sendall(b"x")
        assert read_until(connection, b"and ended") == b"and ended"
        assert process.wait() == 0

    assert process.events.find()[-1]["event"] == "stopped"
    assert process.events.find(level="error") == []
    # Handed on by the application, it is no second one, which would break off.
    assert process.events.find(event="stopping at once") == []
    assert process.events.other_text().strip() == "taken by the application"


TAKES_SIGNALS_LATER = """
import signal

import anyio


def take(number, frame):
    print("taken by the application", flush=True)


async def watch():
    await anyio.sleep(0.1)  # so that the startup is over
    signal.signal(signal.SIGTERM, take)
    while signal.getsignal(signal.SIGTERM) is take:
        await anyio.sleep(0.01)
    print('{"event": "shared"}', flush=True)


async def app(scope, receive, send):
    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_signal_that_a_task_of_the_startup_takes_stops_as_well(loop: str, directory: Path):
    """As `open_signal_receiver` of anyio and trio is used."""
    (directory / "takes_later.py").write_text(TAKES_SIGNALS_LATER)
    with running_process(
        "serve", "takes_later:app", "--loop", loop, "--workers", "0", *BINDS, directory=directory
    ) as process:
        process.events.wait(event="shared")
        assert process.stop() == 0

    assert process.events.find()[-1]["event"] == "stopped"
    assert process.events.other_text().strip() == "taken by the application"


UNHEARD = "asked to stop while the event loop is blocked: the application computes or waits without awaiting"


@looks_at_frames
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("loop", LOOPS)
def test_signal_that_a_blocked_startup_does_not_hear_is_told(
    loop: str, number: signal.Signals, directory: Path
):
    with running_process(
        "serve", "apps:blocks_in_startup", "--loop", loop, *BINDS, directory=directory
    ) as process:
        process.events.wait(event="in startup")
        process.signal(number)
        told = process.events.wait(event=UNHEARD)
        # The second one ends it at once.
        process.signal(number)
        assert process.wait() == 0

    assert told["signal"] == number.name
    assert "time.sleep(600)" in told["stack"]
    assert len(process.events.find(event=UNHEARD)) == 1
    assert process.events.other_text() == ""


@looks_at_frames
def test_blocked_startup_ends_with_the_deadline_of_a_stop(directory: Path):
    (directory / "sitecustomize.py").write_text(
        "from uwsgibridge.worker import process_end\nprocess_end._END_SECONDS = 0.1\n"
    )
    seconds = ("--graceful-timeout-seconds", SHORT_SECONDS, "--lifespan-timeout-seconds", "0.1")
    with running_process(
        *("serve", "apps:blocks_in_startup", *seconds, *BINDS), directory=directory,
        environment={"PYTHONPATH": str(directory)},
    ) as process:  # fmt: skip
        process.events.wait(event="in startup")
        assert process.stop() == 0

    name = "exiting without waiting for what the application does at the end"
    [left] = process.events.find(event=name)
    assert "time.sleep(600)" in left["stack"]


@looks_at_frames
def test_worker_whose_startup_is_blocked_tells_its_stack(directory: Path):
    options = ("--graceful-timeout-seconds", "1", "--lifespan-timeout-seconds", "1")
    with lasting(directory, "1", *options, app="apps:blocks_in_startup") as process:
        process.events.wait(event="in startup")
        process.signal(signal.SIGTERM)
        told = process.events.wait(event=UNHEARD)
        assert "time.sleep(600)" in told["stack"]


def test_end_of_the_lifeline_stops(directory: Path):
    reader, writer = os.pipe()
    try:
        with running_process(
            "serve",
            "apps:wsgi",
            *BINDS,
            directory=directory,
            environment={"UWSGIBRIDGE_LIFELINE_FD": str(reader)},
            pass_fds=[reader],
        ) as process:
            (tcp, _) = addresses(process, directory)
            assert ask(tcp).body == b"0"
            os.close(writer)
            assert process.wait() == 0
    finally:
        os.close(reader)

    assert process.events.find()[-1]["event"] == "stopped"


# Loops.


def without_uvloop(directory: Path) -> None:
    (directory / "uvloop.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'uvloop'\", name='uvloop')\n"
    )


def test_loop_auto_does_without_uvloop(directory: Path):
    without_uvloop(directory)
    with running_process("serve", "apps:asgi", *BINDS, directory=directory) as process:
        assert ask(process.address, "/loop").body == b"asyncio"
        assert process.stop() == 0


def test_loop_auto_takes_uvloop(directory: Path):
    pytest.importorskip("uvloop")
    with running_process("serve", "apps:asgi", *BINDS, directory=directory) as process:
        assert ask(process.address, "/loop").body == b"uvloop"
        assert process.stop() == 0


# Many applications do this as they are imported.
INSTALLS_UVLOOP = """
import asyncio
import warnings

import uvloop

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    uvloop.install()

from apps import *


async def starts_a_program(scope, receive, send):
    assert scope["type"] == "http"
    process = await asyncio.create_subprocess_exec("false")
    status = await process.wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % status})
"""


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="Python has no policies any more")
def test_loop_asyncio_is_asyncio_whatever_the_application_has_installed(directory: Path):
    pytest.importorskip("uvloop")
    (directory / "installs_uvloop.py").write_text(INSTALLS_UVLOOP)
    with running_process(
        "serve", "installs_uvloop:asgi", "--loop", "asyncio", "--lifespan", "off",
        "--mount", "/program=installs_uvloop:starts_a_program", *BINDS, directory=directory,
    ) as process:  # fmt: skip
        assert ask(process.address, "/loop").body == b"asyncio"
        assert ask(process.address, "/program").body == b"1"
        assert process.stop() == 0

    assert "RuntimeWarning" not in process.events.other_text()


def test_loop_uvloop_that_is_not_installed_is_wrong_usage(directory: Path):
    without_uvloop(directory)
    with running_process(
        "serve", "apps:asgi", "--loop", "uvloop", *BINDS, directory=directory
    ) as process:
        assert process.wait() == 2

    assert "pip install 'uwsgibridge[uvloop]'" in process.events.other_text()


@pytest.mark.parametrize("loop", LOOPS)
def test_loop_that_was_asked_for_with_wsgi_and_asgi_side_by_side(loop: str, directory: Path):
    with running_process(
        "serve", "--mount", "/wsgi=apps:wsgi", "--mount", "/=apps:asgi", "--loop", loop, *BINDS,
        directory=directory,
    ) as process:  # fmt: skip
        for address in addresses(process, directory):
            assert ask(address, "/wsgi", method="POST", body=b"12345").body == b"5"
            assert ask(address, "/loop").body.decode() == loop
        assert process.stop() == 0


CANCELS_ALL_TASKS = """
import asyncio


def cancel_others():  # as many applications do at their end
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return asyncio.gather(*others, return_exceptions=True)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await cancel_others()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await cancel_others()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"alone"})
"""


@pytest.mark.parametrize("loop", LOOPS[1:])
def test_an_application_that_cancels_all_tasks_ends_no_worker(loop: str, directory: Path):
    (directory / "cancels.py").write_text(CANCELS_ALL_TASKS)
    with running_process(
        "serve", "cancels:app", "--loop", loop, "--log-format", "json", *BINDS, directory=directory
    ) as process:
        for _ in range(2):
            assert ask(process.address).body == b"alone"
        assert process.stop() == 0

    assert process.events.find()[-1]["event"] == "stopped"
    # The first request has cancelled the lifespan as well, which is told once.
    (told,) = process.events.find(level="error")
    assert told["event"] == "application's lifespan ended while serving"
    assert "Traceback" not in process.events.other_text()


# What is taken over.


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def test_an_inherited_socket_is_accepted_on(family: socket.AddressFamily, directory: Path):
    with socket.socket(family) as listening:
        path = directory / "inherited.sock"
        listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(path))
        listening.listen()
        name = listening.getsockname()
        address = f"unix:{name}" if family == socket.AF_UNIX else f"{name[0]}:{name[1]}"
        number = listening.fileno()
        with running_process(
            "serve", "apps:wsgi", "--bind", f"fd://{number}", "--log-format", "json",
            directory=directory, pass_fds=[number],
        ) as process:  # fmt: skip
            assert process.address == f"fd://{number}"
            assert ask(address, method="POST", body=b"12345").body == b"5"
            assert process.stop() == 0
        # Its owner has it still, file and all.
        connect(address).close()


def test_soft_limit_on_descriptors_is_raised(directory: Path):
    resource = pytest.importorskip("resource")
    (directory / "limit.py").write_text(
        "import resource\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return ['{} {}'.format(*resource.getrlimit(resource.RLIMIT_NOFILE)).encode()]\n"
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with running_process("serve", "limit:app", *BINDS, directory=directory) as process:
            seen = ask(process.address).body.decode().split()
            assert process.stop() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert seen == [str(hard), str(hard)]


# What the application sees of its process.


@EVERY_COUNT
def test_what_is_printed_is_seen_at_once(workers: str, directory: Path):
    with lasting(directory, workers) as process:
        assert ask(addresses(process, directory)[0], "/print").status == 200
        process.events.wait(event="printed")
        assert process.stop() == 0

    assert len(process.events.find(event="printed")) == 1


@EVERY_COUNT
@pytest.mark.parametrize("stream", ["None", "io.StringIO()", "open(os.devnull)"])
def test_output_that_the_application_has_replaced(stream: str, workers: str, directory: Path):
    (directory / "first.py").write_text(
        f"import io, os, sys\nsys.stdout = {stream}\nfrom apps import *"
    )
    with lasting(directory, workers, "--mount", "/second=apps:wsgi", app="first:wsgi") as process:
        assert ask(addresses(process, directory)[0], "/second").status == 200
        assert process.stop() == 0

    assert process.events.find(level="error") == []


@EVERY_COUNT
def test_arguments_are_those_of_the_command_line(workers: str, directory: Path):
    with lasting(directory, workers, "--title", "") as process:
        assert ask(addresses(process, directory)[0], "/argv").status == 200
        argv = process.events.wait(event="argv")["argv"]
        assert process.stop() == 0

    assert argv[0].endswith("__main__.py")
    assert argv[1:] == ["serve", "apps:lasting", *BINDS, "--title", ""]


@pytest.mark.parametrize(
    ("workers", "loading"),
    [("0", ()), ("1", ()), ("1", ("--preload",))],
    ids=["alone", "supervised", "preloaded"],
)
def test_programs_that_the_application_starts_ignore_no_signal(
    loading: tuple[str, ...], workers: str, directory: Path
):
    (directory / "first.py").write_text(
        "from apps import *\ntell_ignored('as it is loaded')\n"
        "def on_fork():\n    tell_ignored('before it serves')\n"
    )
    hooks = ("--on-fork", "first:on_fork", "--on-worker-exit", "first:tell_ignored_at_exit")
    with lasting(directory, workers, *hooks, *loading, app="first:lasting") as process:
        assert ask(addresses(process, directory)[0], "/ignored").status == 200
        assert process.stop() == 0

    # Under nohup, everything ignores SIGHUP from the start.
    before = {it.name for it in signal.Signals if signal.getsignal(it) == signal.SIG_IGN}
    told = {event["when"]: event["names"] for event in process.events.find(event="ignored")}
    assert {when: set(names) - before for when, names in told.items()} == {
        "as it is loaded": set(),
        "before it serves": set(),
        "in a request": set(),
        "in the hook": set(),
        "at the very end": set(),
    }


# Applications that are not served.


@EVERY_COUNT
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("apps:wsgi", "--mount", "/foo=absent:app"), "(mounted at /foo)"),
        (("--mount", "/foo=apps:wsgi", "--mount", "/=absent:app"), "(mounted at /)"),
        (("--mount", "/foo=apps:CHUNK"), "which can't be called (mounted at /foo)"),
    ],
)
def test_mounted_application_that_does_not_load_is_told_by_its_prefix(
    arguments: tuple[str, ...], told: str, workers: str, directory: Path
):
    status, text = run_to_its_end(
        "serve", *arguments, *BINDS,
        directory=directory, environment={"UWSGIBRIDGE_WORKERS": workers},
    )  # fmt: skip
    assert status == 3
    assert told in text
    assert "Traceback" not in text


@EVERY_COUNT
def test_application_on_green_threads_is_refused(workers: str, directory: Path):
    (directory / "gevent").mkdir()
    (directory / "gevent/__init__.py").write_text("")
    (directory / "gevent/monkey.py").write_text("is_module_patched = ['select'].__contains__\n")
    (directory / "green.py").write_text("import gevent.monkey\nfrom apps import wsgi\n")
    status, text = run_to_its_end(
        "serve", "green:wsgi", *BINDS,
        directory=directory, environment={"UWSGIBRIDGE_WORKERS": workers},
    )  # fmt: skip
    assert status == 3
    assert "green:wsgi has gevent replace select" in text
    assert "Traceback" not in text


def test_queues_that_an_application_replaces_are_not_those_of_the_threads(directory: Path):
    replaces = "from apps import wsgi\nimport queue\nqueue.SimpleQueue = None\n"
    (directory / "green.py").write_text(replaces)
    with running_process("serve", "green:wsgi", *BINDS, directory=directory) as process:
        assert ask(process.address).body == b"0"
        assert process.stop() == 0
        assert process.events.find(level="error") == []


# Memory: what streams is not gathered.


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("loop", ["wsgi", *LOOPS])
def test_streams_are_not_gathered_in_memory(loop: str, directory: Path):
    # The whole gibibyte is for the integration tests; a hundredth is too little to tell by.
    mebibytes = 128
    kind = "wsgi" if loop == "wsgi" else "asgi"
    options = () if loop == "wsgi" else ("--loop", loop)
    with running_process(
        "serve", f"apps:{kind}", "--mount", f"/download=apps:{kind}_download", *options, *BINDS,
        directory=directory,
    ) as process:  # fmt: skip
        for address in addresses(process, directory):
            ask(address, "/download", QUERY_STRING="1")
        before = peak_memory_mebibytes(process.pid)
        for address in addresses(process, directory):
            assert download(address, mebibytes) == mebibytes << 20
            assert upload(address, mebibytes).body == b"%d" % (mebibytes << 20)
        growth = peak_memory_mebibytes(process.pid) - before
        assert process.stop() == 0

    assert growth < 32


def peak_memory_mebibytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


def download(address: str, mebibytes: int) -> int:
    received = 0
    with connect(address) as connection:
        connection.sendall(packet("/download", QUERY_STRING=str(mebibytes)))
        read_until_head_ends(connection)
        while piece := connection.recv(1 << 20):
            received += len(piece)
    return received


def read_until_head_ends(connection: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)


def upload(address: str, mebibytes: int) -> Answer:
    with connect(address) as connection:
        chunk = bytes(1 << 20)
        connection.sendall(packet(method="POST", content_length=mebibytes << 20))
        for _ in range(mebibytes):
            connection.sendall(chunk)
        return read_answer(connection)


def test_a_burst_from_many_threads_is_answered(directory: Path):
    answers: list[bytes] = []

    def client(address: str) -> None:
        for _ in range(20):
            answers.append(ask(address, method="POST", body=b"12345").body)

    with running_process("serve", "apps:wsgi", *BINDS, directory=directory) as process:
        threads = [
            threading.Thread(target=client, args=[address])
            for address in addresses(process, directory) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert process.stop() == 0

    assert answers == [b"5"] * 160


# How long a thread may keep the interpreter.

SETS_ANOTHER = """
import sys
from apps import wsgi_interval as wsgi
sys.setswitchinterval(0.02)
"""


@pytest.mark.parametrize(
    ("app", "options", "interval"),
    [
        pytest.param("apps:wsgi_interval", (), b"0.0005", id="of WSGI, the bridge's"),
        pytest.param(
            "apps:wsgi_interval", ("--preload", "--workers", "1"), b"0.0005", id="preloaded"
        ),
        pytest.param(
            "apps:wsgi_interval",
            ("--switch-interval-seconds", "0.002"),
            b"0.002",
            id="the option's",
        ),
        pytest.param(
            "apps:wsgi_interval", ("--switch-interval-seconds", "0"), b"0.005", id="Python's"
        ),
        pytest.param("sets_another:wsgi", (), b"0.02", id="the application's"),
        pytest.param("apps:asgi_interval", (), b"0.005", id="of ASGI, Python's"),
    ],
)
def test_interval_after_which_a_waiting_thread_gets_the_interpreter(
    app: str, options: tuple[str, ...], interval: bytes, directory: Path
):
    (directory / "sets_another.py").write_text(SETS_ANOTHER)
    with running_process("serve", app, *BINDS, *options, directory=directory) as process:
        answer = ask(addresses(process, directory)[0])
    assert answer.body == interval
