"""``await uwsgibridge.serve(...)`` inside a trio program, as its documentation has it."""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import uwsgibridge
from tests.log_events import PATIENCE_SECONDS, LogEvents
from tests.raw_client import connect, packet, read_answer
from uwsgibridge import ApplicationError, BindError, Settings, SettingsError
from uwsgibridge.application.application import describe
from uwsgibridge.client import ping, request
from uwsgibridge.telemetry.logs import make_logger

# For a deadline that is meant to pass.
SHORT_SECONDS = 0.1


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@asynccontextmanager
async def serving(app: Any, **arguments: Any) -> AsyncIterator[list[str]]:
    """Serve for the length of a block, as a trio program would."""
    arguments.setdefault("logger", make_logger("json", stream=LogEvents()))
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(functools.partial(uwsgibridge.serve, app, **arguments))
            nursery.cancel_scope.cancel()


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await trio.to_thread.run_sync(function, *args)


async def get(address: str, path: str = "/") -> bytes:
    answer = await in_thread(request, address, path)
    assert answer.status == 200
    body: bytes = answer.body
    return body


@pytest.mark.trio
@pytest.mark.parametrize("app", [wsgi_app, asgi_app])
async def test_serves_until_it_is_cancelled(app: Any, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with serving(app, bind=["127.0.0.1:0", "unix:app.sock"]) as addresses:
        tcp, unix = addresses
        assert unix == "unix:app.sock"
        assert not tcp.endswith(":0")
        for address in addresses:
            assert (await get(address, "/path")).endswith(b"/path")
            await in_thread(ping, address)

    assert not (tmp_path / "app.sock").exists()
    with pytest.raises(ConnectionRefusedError):
        connect(tcp)


@pytest.mark.trio
async def test_settings_give_the_addresses_where_bind_does_not():
    settings = Settings(bind=("127.0.0.1:0", "127.0.0.1:0"))
    async with serving(wsgi_app, settings=settings) as addresses:
        assert len(set(addresses)) == 2
    async with serving(wsgi_app, settings=settings, bind=["127.0.0.1:0"]) as addresses:
        assert len(addresses) == 1


@pytest.mark.trio
async def test_mounts_serve_below_their_prefix():
    mounts = {"/one": wsgi_app, "/one/two/": wsgi_app, "/asgi": asgi_app}
    async with serving(wsgi_app, bind=["127.0.0.1:0"], mounts=mounts) as (address,):
        assert await get(address, "/x") == b"|/x"
        assert await get(address, "/one") == b"/one|"
        assert await get(address, "/ones") == b"|/ones"
        assert await get(address, "/one/two/x") == b"/one/two|/x"
        assert await get(address, "/asgi/x") == b"/asgi/x"


@pytest.mark.trio
async def test_asgi_applications_are_tasks_of_the_same_trio():
    event = trio.Event()

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        event.set()
        await trio.lowlevel.checkpoint()
        await asgi_app(scope, receive, send)

    async with serving(app, bind=["127.0.0.1:0"]) as (address,):
        await get(address)
        await event.wait()


@pytest.mark.trio
async def test_two_bridges_serve_in_one_program():
    async with (
        serving(wsgi_app, bind=["127.0.0.1:0"]) as (one,),
        serving(asgi_app, bind=["127.0.0.1:0"]) as (two,),
    ):
        assert await get(one, "/x") == b"|/x"
        assert await get(two, "/x") == b"/x"


@pytest.mark.trio
async def test_cancel_lets_running_requests_end():
    started, go_on = threading.Event(), threading.Event()

    def app(environ, start_response):
        started.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return wsgi_app(environ, start_response)

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(
                functools.partial(
                    uwsgibridge.serve, app, bind=["127.0.0.1:0"],
                    logger=make_logger("json", stream=LogEvents()),
                )
            )  # fmt: skip
            with connect(address) as connection:
                connection.sendall(packet("/late"))
                assert await in_thread(started.wait, PATIENCE_SECONDS)
                nursery.cancel_scope.cancel()
                go_on.set()
                with trio.CancelScope(shield=True):
                    answer = await in_thread(read_answer, connection)
    assert answer.body == b"|/late"


@pytest.mark.trio
async def test_cancel_breaks_off_what_takes_longer_than_the_graceful_timeout():
    events = LogEvents()
    started, go_on = threading.Event(), threading.Event()

    def app(environ, start_response):
        started.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return []

    with trio.fail_after(PATIENCE_SECONDS):
        async with serving(
            app,
            settings=Settings(bind=("127.0.0.1:0",), graceful_timeout_seconds=SHORT_SECONDS),
            logger=make_logger("json", stream=events),
        ) as (address,):
            connection = connect(address)
            connection.sendall(packet("/late"))
            assert await in_thread(started.wait, PATIENCE_SECONDS)

    with connection:
        answer = read_answer(connection)
        assert (answer.status, answer.body) == (503, b"The server can't run this request now.\n")
        assert answer.headers["retry-after"] == "1"
    go_on.set()
    (event,) = events.find(level="error")
    assert event["option"] == "--graceful-timeout-seconds"
    assert event["requests"] == 1


# What goes wrong is raised as it is documented, not in groups.


@pytest.mark.trio
async def test_address_that_can_not_be_had_is_a_bind_error():
    async with serving(wsgi_app, bind=["127.0.0.1:0"]) as (address,):
        with pytest.raises(BindError, match="in use"):
            await uwsgibridge.serve(wsgi_app, bind=[address])


@pytest.mark.trio
async def test_text_that_is_no_address_is_a_settings_error():
    with pytest.raises(SettingsError, match="--bind"):
        await uwsgibridge.serve(wsgi_app, bind=["nonsense"])


@pytest.mark.trio
@pytest.mark.parametrize(
    "prefixes", [["api"], ["api/"], ["/api", "/api/"], ["/"]], ids=["bare", "end", "twice", "root"]
)
async def test_text_that_is_no_prefix_of_its_own_is_a_settings_error(prefixes: list[str]):
    mounts = dict.fromkeys(prefixes, wsgi_app)
    logger = make_logger("json", stream=LogEvents())
    with pytest.raises(SettingsError), trio.move_on_after(SHORT_SECONDS):
        await uwsgibridge.serve(wsgi_app, bind=["127.0.0.1:0"], mounts=mounts, logger=logger)


@pytest.mark.trio
async def test_startup_that_fails_is_an_application_error():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(ApplicationError, match="no database"):
        await uwsgibridge.serve(
            app, bind=["127.0.0.1:0"], logger=make_logger("json", stream=LogEvents())
        )


@pytest.mark.trio
async def test_without_a_logger_events_go_to_standard_error(capsys: pytest.CaptureFixture[str]):
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                functools.partial(uwsgibridge.serve, wsgi_app, bind=["127.0.0.1:0"])
            )
            nursery.cancel_scope.cancel()

    captured = capsys.readouterr()
    assert captured.out == ""
    assert '"event": "listening"' in captured.err


# How applications are called in the log.


class Callable_:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


@pytest.mark.parametrize(
    ("app", "interface", "name"),
    [
        (wsgi_app, "wsgi", f"{__name__}:wsgi_app"),
        (asgi_app, "asgi", f"{__name__}:asgi_app"),
        (Callable_(), "wsgi", f"{__name__}:Callable_"),
        (functools.partial(asgi_app), "asgi", "functools:partial"),
    ],
    ids=["function", "coroutine-function", "object", "partial"],
)
def test_application_is_named_and_known_by_its_callable(app: Any, interface: str, name: str):
    application = describe(app)

    assert (application.interface, application.name) == (interface, name)
    assert describe(app, name="site:app", prefix="/x").name == "site:app"
    assert describe(app, interface).interface == interface


def test_interface_that_was_chosen_goes_before_what_the_callable_looks_like():
    async def app(*_: Any) -> None:
        pass

    assert describe(app).interface == "asgi"
    assert describe(app, "wsgi").interface == "wsgi"


@pytest.mark.parametrize(("app", "interface"), [(wsgi_app, "asgi"), (asgi_app, "wsgi")])
def test_interface_that_was_chosen_must_fit(app: Any, interface: str):
    with pytest.raises(ApplicationError, match=f"--interface {interface}"):
        describe(app, interface)


@pytest.mark.trio
async def test_figures_are_published_as_by_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "x.prom"
    settings = Settings(status_bind="127.0.0.1:0", metrics_file=str(file))
    log = LogEvents()
    arguments = {"settings": settings, "logger": make_logger("json", stream=log)}
    async with serving(wsgi_app, bind=["127.0.0.1:0"], mounts={"/a": wsgi_app}, **arguments) as [
        address
    ]:
        await get(address, "/a/b")
        [event] = log.find(event="figures are published")
        text = await get(event["at"], "/metrics")
        assert b'uwsgibridge_requests_total{mount="/a",method="GET",status="2xx"} 1\n' in text
        assert file.exists()
    assert not file.exists()


@pytest.mark.trio
async def test_a_failed_start_with_figures_is_the_same_error() -> None:
    with pytest.raises(SettingsError, match="--metrics-file"):
        await uwsgibridge.serve(
            wsgi_app,
            bind=["127.0.0.1:0"],
            settings=Settings(metrics_file="/nowhere/x.prom"),
            logger=make_logger("json", stream=LogEvents()),
        )
