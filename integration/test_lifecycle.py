"""How a bridge starts, stops and dies behind an Nginx: exit statuses, draining, sockets left behind."""

from __future__ import annotations

import signal
import socket
import stat
import time
from pathlib import Path

import pytest
import requests

from uwsgibridge.client import PingError, ping, request
from uwsgibridge.testing import BridgeProcess, LocalStack, StackError, event_with

APPS = Path(__file__).parent / "apps"

EVERY_HOST = pytest.mark.parametrize(
    ("interface", "loop"),
    [("wsgi", "auto"), ("asgi", "asyncio"), ("asgi", "uvloop"), ("asgi", "trio")],
)
EVERY_SOCKET = pytest.mark.parametrize("kind_of_socket", ["tcp", "unix"])

# More than all the buffers between the application and a client that does not read.
MUCH = 64_000_000


def bridge(app, *arguments, **options):
    return BridgeProcess(app, "--app-dir", str(APPS), *arguments, **options)


@EVERY_HOST
@EVERY_SOCKET
def test_a_signal_lets_a_running_request_end(client, kind_of_socket, interface, loop):
    with LocalStack(
        f"exercises.{interface}:application",
        app_dir=APPS,
        socket=kind_of_socket,
        interface=interface,
        loop=loop,
    ) as stack:
        with client.get(f"{stack.url}/body?bytes={MUCH}", stream=True, timeout=20) as answer:
            pieces = answer.iter_content(100_000)
            received = len(next(pieces))
            stack.bridge.signal(signal.SIGTERM)
            # New ones are refused now, and not after the running ones: Nginx can ask another bridge.
            refusal = "Nothing listens" if kind_of_socket == "tcp" else "There is no such socket"
            assert refusal in complaint_of_ping(stack.address, refusal)
            assert client.get(f"{stack.url}/arrived", timeout=20).status_code == 502
            received += sum(map(len, pieces))
        assert received == MUCH
        assert stack.bridge.wait_ended(10) == 0
        assert stack.log.wait_ended(10)  # all of it has been read
        assert stack.log_events()[-1]["event"] == "stopped"
        if interface == "asgi":
            stack.wait_for_event(event_with(event="app: shutdown"))


@EVERY_HOST
def test_ctrl_c_stops_it_as_well(interface, loop):
    with bridge(
        *(f"exercises.{interface}:application", "--bind", "127.0.0.1:0"),
        *("--interface", interface, "--loop", loop),
    ) as running:
        running.signal(signal.SIGINT)
        assert running.wait_ended(10) == 0
        assert "Traceback" not in running.log.text()


def complaint_of_ping(address, final):
    """Ask until nobody listens: the signal is on its way, and so are connections that it meets.

    Such a connection is closed, or reset as the listening socket is, or hears nothing (TCP), or meets a
    socket file whose socket refuses already (unix).
    """
    deadline = time.monotonic() + 10
    complaint = "it goes on answering"
    while final not in complaint and time.monotonic() < deadline:
        try:
            ping(address, timeout_seconds=1)
        except PingError as error:
            complaint = str(error)
    return complaint


@EVERY_HOST
def test_a_request_that_does_not_end_is_broken_off(client, interface, loop):
    with LocalStack(
        f"exercises.{interface}:application",
        app_dir=APPS,
        interface=interface,
        loop=loop,
        graceful_timeout_seconds=0.2,
    ) as stack:
        with client.get(f"{stack.url}/body?bytes={MUCH}", stream=True, timeout=20) as answer:
            pieces = answer.iter_content(100_000)
            assert next(pieces)
            stack.bridge.signal(signal.SIGTERM)
            event = stack.wait_for_event(event_with(option="--graceful-timeout-seconds"))
            assert event["requests"] == 1
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                list(pieces)
        assert stack.bridge.wait_ended(10) == 0


def test_a_second_signal_ends_it_at_once(client):
    with (
        LocalStack(
            "exercises.wsgi:application", app_dir=APPS, graceful_timeout_seconds=60
        ) as stack,
        client.get(f"{stack.url}/body?bytes={MUCH}", stream=True, timeout=20) as answer,
    ):
        # Kept: an iterator that is dropped inside a chunked answer closes the connection.
        pieces = answer.iter_content(100_000)
        assert next(pieces)
        for _ in range(2):
            before = len(stack.log_events())
            stack.bridge.signal(signal.SIGTERM)
            stack.wait_for_event(event_with(signal="SIGTERM"), since=before)
        assert stack.bridge.wait_ended(10) == 0


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("no_such_module:application", "no_such_module"),
        ("exercises.wsgi:no_such_attribute", "no_such_attribute"),
        ("exercises.wsgi:HANDLERS", "can't be called"),
        ("exercises.broken:application", "deliberate"),
    ],
)
def test_an_application_that_cannot_be_loaded_is_status_3(app, words, tmp_path):
    package = tmp_path / "exercises"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "wsgi.py").write_text("HANDLERS = {}\n")
    (package / "broken.py").write_text('raise ValueError("deliberate")\n')
    with pytest.raises(StackError) as caught:
        BridgeProcess(app, "--app-dir", str(tmp_path), "--bind", "127.0.0.1:0").start()
    assert caught.value.exit_status == 3
    sentence = caught.value.log.rstrip().splitlines()[-1]
    assert sentence.startswith("Error: ")
    assert words in caught.value.log
    # The application's own traceback where it is the application's fault, and none of ours.
    assert ("Traceback" in caught.value.log) == ("broken" in app)
    assert "uwsgibridge/" not in caught.value.log


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_a_startup_that_fails_is_status_3(tmp_path, loop):
    (tmp_path / "failing.py").write_text(
        "async def application(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database today'})\n"
    )
    with pytest.raises(StackError) as caught:
        BridgeProcess(
            *("failing:application", "--app-dir", str(tmp_path)),
            *("--bind", "127.0.0.1:0", "--interface", "asgi", "--loop", loop),
        ).start()
    assert caught.value.exit_status == 3
    assert "no database today" in caught.value.log


def test_an_address_in_use_is_status_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StackError) as caught:
            bridge("exercises.wsgi:application", "--bind", address).start()
    assert caught.value.exit_status == 1
    assert f"Error: {address}: the port is in use" in caught.value.log


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bind", "nonsense"),
        ("--threads", "0"),
        ("--no-such-option",),
        ("--bind", "127.0.0.1:0", "--mount", "no-slash=x:y"),
    ],
)
def test_a_wrong_option_is_status_2(arguments):
    with pytest.raises(StackError) as caught:
        bridge("exercises.wsgi:application", *arguments).start()
    assert caught.value.exit_status == 2
    assert "Traceback" not in caught.value.log
    assert arguments[0] in caught.value.log or "--mount" in caught.value.log


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_tcp_addresses_are_listened_at(address):
    with bridge("exercises.wsgi:application", "--bind", address) as running:
        assert request(running.address, "/arrived").status == 200
        assert not running.address.endswith(":0")
        assert running.stop() == 0


def test_several_addresses_are_listened_at(tmp_path):
    path = tmp_path / "app.sock"
    with bridge(
        "exercises.wsgi:application", "--bind", "127.0.0.1:0", "--bind", f"unix:{path}"
    ) as running:
        running.wait_for_event(event_with(event="listening", address=f"unix:{path}"))
        assert request(running.address, "/arrived").status == 200
        assert request(f"unix:{path}", "/arrived").status == 200


def test_an_inherited_socket_is_accepted_on():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with bridge(
            "exercises.wsgi:application", "--bind", "fd://0", stdin=listener.fileno()
        ) as running:
            assert request(address, "/arrived").status == 200
            assert running.stop() == 0


# --- Unix sockets ---------------------------------------------------------------------------------


def test_a_socket_has_its_mode_and_its_directory_nothing_else(tmp_path):
    path = tmp_path / "app.sock"
    with bridge(
        "exercises.wsgi:application", "--bind", f"unix:{path}", "--socket-mode", "0600"
    ) as running:
        assert [one.name for one in tmp_path.iterdir()] == ["app.sock"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert running.stop() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_stale_socket_is_replaced(tmp_path):
    address = f"unix:{tmp_path / 'app.sock'}"
    with bridge("exercises.wsgi:application", "--bind", address) as first:
        first.signal(signal.SIGKILL)
        assert first.wait_ended(10) == -signal.SIGKILL
        assert (tmp_path / "app.sock").exists()
    with bridge("exercises.wsgi:application", "--bind", address) as second:
        assert request(second.address, "/arrived").status == 200
        assert second.stop() == 0


def test_a_live_socket_is_left_alone(tmp_path):
    address = f"unix:{tmp_path / 'app.sock'}"
    with bridge("exercises.wsgi:application", "--bind", address) as first:
        with pytest.raises(StackError) as caught:
            bridge("exercises.wsgi:application", "--bind", address).start()
        assert caught.value.exit_status == 1
        assert "another process listens there" in caught.value.log
        assert request(first.address, "/arrived").status == 200


def test_only_its_own_socket_is_removed(tmp_path):
    """A second one has taken the path over, as a deployment without a stop in between does."""
    path = tmp_path / "app.sock"
    with bridge("exercises.wsgi:application", "--bind", f"unix:{path}") as first:
        path.unlink()
        with bridge("exercises.wsgi:application", "--bind", f"unix:{path}") as second:
            assert first.stop() == 0
            assert request(second.address, "/arrived").status == 200
            assert second.stop() == 0


def test_another_file_is_not_replaced(tmp_path):
    path = tmp_path / "app.sock"
    path.write_text("precious")
    with pytest.raises(StackError) as caught:
        bridge("exercises.wsgi:application", "--bind", f"unix:{path}").start()
    assert caught.value.exit_status == 1
    assert path.read_text() == "precious"


# --- Behind an Nginx that stays -------------------------------------------------------------------


@EVERY_SOCKET
def test_without_a_bridge_nginx_answers_502(client, kind_of_socket):
    with LocalStack("exercises.wsgi:application", app_dir=APPS, socket=kind_of_socket) as stack:
        assert client.get(f"{stack.url}/arrived").status_code == 200
        stack.bridge.signal(signal.SIGKILL)
        assert stack.bridge.wait_ended(10) == -signal.SIGKILL
        answer = client.get(f"{stack.url}/arrived")
        assert answer.status_code == 502
        assert "does not answer" in answer.text
        assert stack.stop() == -signal.SIGKILL
