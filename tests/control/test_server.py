"""The control socket: what it answers, whom it keeps out, and what clients can't do to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.control_server import FakeSupervisor, control_directory, running_control
from tests.log_events import PATIENCE_SECONDS, LogEvents
from uwsgibridge.control import server as control
from uwsgibridge.control.client import (
    CommandRefusedError,
    ControlConnection,
    ControlError,
    ControlTimeoutError,
    ask,
)
from uwsgibridge.control.commands import COMMANDS
from uwsgibridge.control.server import CLIENT_TIMEOUT_SECONDS, MAX_CLIENTS, serve_control
from uwsgibridge.errors import BindError
from uwsgibridge.telemetry.logs import make_logger

NOBODY = 65_534


@pytest.fixture
def path() -> Iterator[Path]:
    with control_directory() as directory:
        yield directory / "control.sock"


@pytest.fixture
def supervisor() -> FakeSupervisor:
    return FakeSupervisor()


@contextlib.asynccontextmanager
async def serving(path: Path, supervisor: FakeSupervisor) -> AsyncIterator[LogEvents]:
    """Serve in this event loop; a deadline of the mock clock is no wait."""
    log = LogEvents()
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            await serve_control(
                path, supervisor, logger=make_logger("json", stream=log), task_status=task_status
            )

        await nursery.start(serve)
        yield log
        nursery.cancel_scope.cancel()


class Client:
    """Sends bytes, whatever they are, and takes answers."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = b""

    async def answer(self) -> Any:
        """Give the next answer; None where the connection has ended."""
        while b"\n" not in self._received:
            with trio.fail_after(2 * CLIENT_TIMEOUT_SECONDS):
                piece = await self.stream.receive_some()
            if not piece:
                assert not self._received
                return None
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    async def ask(self, line: bytes) -> Any:
        await self.stream.send_all(line + b"\n")
        return await self.answer()


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Client]:
    async with await trio.open_unix_socket(path) as stream:
        yield Client(stream)


# What it answers.


@pytest.mark.trio
async def test_one_connection_carries_many_commands(path, supervisor):
    async with serving(path, supervisor), connected(path) as client:
        assert await client.ask(b'{"command": "status"}') == {
            "ok": True,
            **supervisor.status_answer,
        }
        assert await client.ask(b'{"command": "scale", "workers": 4}') == {"ok": True, "workers": 4}
        assert await client.ask(b'{"command": "reload"}') == {"ok": True, "reloaded": True}
        assert (await client.ask(b'{"command": "stacks"}'))["processes"][1]["pid"] == 12
        assert await client.ask(b'{"command": "stop"}') == {"ok": True, "stopping": True}
    assert supervisor.asked == ["status", ("scale", 4), "reload", "stacks", "stop"]


@pytest.mark.trio
async def test_requests_that_arrive_together_and_in_pieces(path, supervisor):
    async with serving(path, supervisor), connected(path) as client:
        await client.stream.send_all(b'{"command": "status"}\n{"command": "rel')
        assert (await client.answer())["pid"] == 1
        await trio.testing.wait_all_tasks_blocked()
        await client.stream.send_all(b'oad"}\n')
        assert await client.answer() == {"ok": True, "reloaded": True}


@pytest.mark.trio
async def test_two_clients_are_answered_at_once(path, supervisor):
    supervisor.held = trio.Event()
    async with serving(path, supervisor), connected(path) as first, connected(path) as second:
        await first.stream.send_all(b'{"command": "reload"}\n')
        assert (await second.ask(b'{"command": "status"}'))["ok"] is True
        supervisor.held.set()
        assert await first.answer() == {"ok": True, "reloaded": True}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"", 'a request is one line of JSON such as {"command": "status"}'),
        (b"GET / HTTP/1.1", "a request is one line of JSON"),
        (b"\xff\xfe{", "a request is one line of JSON"),
        (b"[" * 60_000, "a request is one line of JSON"),
        (b'"status"', "a request is one line of JSON"),
        (b'{"command": 1}', "a request is one line of JSON"),
        (b'{"workers": 4}', "a request is one line of JSON"),
        (
            b'{"command": "restart"}',
            "there is no command 'restart'; there are status, requests, ",
        ),
        (b'{"command": "__init__"}', "there is no command '__init__'"),
        (b'{"command": "scale"}', "arguments of scale: workers; not none"),
        (b'{"command": "stop", "pid": 4}', "arguments of stop: none; not pid"),
        (b'{"command": "scale", "workers": 4, "now": 1}', "arguments of scale: workers; not work"),
        (b'{"command": "scale", "workers": 0}', "workers is a whole number from 1 to 1000"),
        (b'{"command": "scale", "workers": 1001}', "workers is a whole number from 1 to 1000"),
        (b'{"command": "scale", "workers": "4"}', "workers is a whole number from 1 to 1000"),
        (b'{"command": "scale", "workers": true}', "workers is a whole number from 1 to 1000"),
        (b'{"command": "kill"}', "arguments of kill: pid, now; not none"),
        (b'{"command": "kill", "pid": 0}', "pid is a whole number from 1 to 2147483648"),
        (b'{"command": "requests", "limit": 0}', "limit is a whole number from 1 to 10000"),
        (b'{"command": "requests", "stacks": 1}', "stacks is true or false"),
        (
            b'{"command": "requests", "older_seconds": NaN}',
            "older_seconds is a number of seconds from 0 to 1e+06",
        ),
        (b'{"command": "scale", "workers": 2.0}', "workers is a whole number from 1 to 1000"),
    ],
)
@pytest.mark.trio
async def test_what_makes_no_sense_is_refused_and_the_connection_stays(
    line, sentence, path, supervisor
):
    async with serving(path, supervisor), connected(path) as client:
        answer = await client.ask(line)
        assert answer["ok"] is False
        assert sentence in answer["error"]
        assert supervisor.asked == []
        assert (await client.ask(b'{"command": "status"}'))["ok"] is True


@pytest.mark.trio
async def test_a_line_that_is_too_long_is_refused_and_ends_the_connection(path, supervisor):
    async with serving(path, supervisor):
        for size in (control.MAX_REQUEST_BYTES + 1, 400_000):
            async with connected(path) as client:
                with contextlib.suppress(trio.BrokenResourceError):  # it closes in the middle
                    await client.stream.send_all(b" " * size)
                assert await client.answer() == {
                    "ok": False,
                    "error": "a request is one line of at most 65536 bytes",
                }
                with contextlib.suppress(trio.BrokenResourceError):
                    assert await client.answer() is None


@pytest.mark.trio
async def test_a_command_that_fails_says_why(path, supervisor):
    supervisor.refusal = "the new code does not load: ImportError"
    async with serving(path, supervisor), connected(path) as client:
        assert await client.ask(b'{"command": "reload"}') == {
            "ok": False,
            "error": "the new code does not load: ImportError",
        }


@pytest.mark.parametrize(
    "fault", [ZeroDivisionError("x"), trio.TooSlowError(), ExceptionGroup("several", [OSError()])]
)
@pytest.mark.trio
async def test_a_fault_in_a_command_is_logged_and_harms_nobody_else(fault, path, supervisor):
    supervisor.fault = fault
    async with serving(path, supervisor) as log, connected(path) as client:
        answer = await client.ask(b'{"command": "status"}')
        assert answer["ok"] is False
        assert "see the log" in answer["error"]
        assert type(fault).__name__ in log.wait(event="control command failed")["exception"]
        supervisor.fault = None
        assert (await client.ask(b'{"command": "status"}'))["ok"] is True


@pytest.mark.trio
async def test_an_answer_that_json_does_not_have_is_a_fault(path, supervisor):
    supervisor.status_answer["requests"] = float("nan")
    async with serving(path, supervisor), connected(path) as client:
        assert (await client.ask(b'{"command": "status"}'))["ok"] is False


@pytest.mark.trio
async def test_what_changes_something_is_logged(path, supervisor):
    async with serving(path, supervisor) as log, connected(path) as client:
        await client.ask(b'{"command": "status"}')
        await client.ask(b'{"command": "scale", "workers": 4}')
    [event] = log.find(event="control command")
    assert (event["command"], event["workers"]) == ("scale", 4)


# Clients that do harm, or try to.


@pytest.mark.trio
async def test_a_client_that_leaves_in_mid_command_breaks_nothing_off(path, supervisor):
    supervisor.held = trio.Event()
    async with serving(path, supervisor), connected(path) as other:
        async with connected(path) as leaving:
            await leaving.stream.send_all(b'{"command": "reload"}\n')
            await trio.testing.wait_all_tasks_blocked()
        supervisor.held.set()
        await trio.testing.wait_all_tasks_blocked()  # its answer has found nobody
        assert (await other.ask(b'{"command": "status"}'))["ok"] is True
    assert supervisor.asked == ["reload", "status"]


@pytest.mark.trio
async def test_a_client_that_leaves_in_mid_line_is_forgotten(path, supervisor):
    async with serving(path, supervisor) as log, connected(path) as other:
        async with connected(path) as leaving:
            await leaving.stream.send_all(b'{"command": "sto')
        assert (await other.ask(b'{"command": "status"}'))["ok"] is True
    assert supervisor.asked == ["status"]
    assert log.find() == []


@pytest.mark.trio
async def test_a_client_that_stalls_is_dropped(path, supervisor, autojump_clock):
    async with serving(path, supervisor):
        for begun in (b"", b'{"command": "sta'):
            async with connected(path) as client:
                started_at = trio.current_time()
                await client.stream.send_all(begun)
                assert await client.answer() is None
                assert trio.current_time() - started_at == pytest.approx(CLIENT_TIMEOUT_SECONDS)


@pytest.mark.trio
async def test_a_client_that_takes_no_answer_is_dropped(path, supervisor, autojump_clock):
    supervisor.status_answer["name"] = "x" * 4_000_000  # more than the kernel holds
    async with serving(path, supervisor), connected(path) as client:
        await client.stream.send_all(b'{"command": "status"}\n')
        await trio.sleep(CLIENT_TIMEOUT_SECONDS + 1)
        received = 0
        while piece := await client.stream.receive_some():
            received += len(piece)
        assert received < 4_000_000


@pytest.mark.trio
async def test_one_more_client_than_there_may_be_is_told_so(path, supervisor):
    async with serving(path, supervisor), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(path)) for _ in range(MAX_CLIENTS)]
        await trio.testing.wait_all_tasks_blocked()
        async with connected(path) as refused:
            assert await refused.answer() == {
                "ok": False,
                "error": "16 clients are connected, which is the most; end one",
            }
            assert await refused.answer() is None
        await clients[0].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        async with connected(path) as client:
            assert (await client.ask(b'{"command": "status"}'))["ok"] is True


# The socket file.


@pytest.mark.trio
async def test_only_its_owner_may_connect(path, supervisor):
    previous = os.umask(0)
    try:
        async with serving(path, supervisor):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(previous)


@pytest.mark.trio
async def test_it_is_removed_at_the_end(path, supervisor):
    async with serving(path, supervisor):
        assert path.is_socket()
    assert list(path.parent.iterdir()) == []


@pytest.mark.trio
async def test_one_that_is_another_s_by_now_stays(path, supervisor):
    async with serving(path, supervisor):
        path.unlink()
        path.write_text("of somebody else")
    assert path.exists()


@pytest.mark.trio
async def test_a_stale_one_is_replaced(path, supervisor):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serving(path, supervisor), connected(path) as client:
        assert (await client.ask(b'{"command": "status"}'))["ok"] is True


async def serve_alone(path: Path) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        await serve_control(path, FakeSupervisor(), logger=make_logger("json"))


@pytest.mark.trio
async def test_a_live_one_is_refused(path, supervisor):
    async with serving(path, supervisor), connected(path) as client:
        with pytest.raises(
            BindError, match=r"^--control-socket: .* this process itself listens there"
        ):
            await serve_alone(path)
        assert (await client.ask(b'{"command": "status"}'))["ok"] is True


@pytest.mark.trio
async def test_a_path_that_can_t_be_had_is_refused_with_the_option_s_name(path):
    with pytest.raises(BindError, match=r"^--control-socket: .* there is no directory"):
        await serve_alone(path / "missing" / "control.sock")
    with pytest.raises(BindError, match=r"^--control-socket: .* too long"):
        await serve_alone(path.parent / ("x" * 200))


# The client.


def test_ask_gives_the_answer(path, supervisor):
    with running_control(path, supervisor):
        assert ask(path, "status")["workers_wanted"] == 2
        assert ask(path, "scale", workers=3)["workers"] == 3


def test_one_connection_serves_several_questions(path, supervisor):
    with running_control(path, supervisor), ControlConnection(path) as connection:
        assert connection.ask("status")["pid"] == 1
        assert connection.ask("reload") == {"ok": True, "reloaded": True}


def test_a_large_answer_arrives_whole(path, supervisor):
    supervisor.status_answer["name"] = "x" * 3_000_000
    with running_control(path, supervisor):
        assert len(ask(path, "status")["name"]) == 3_000_000


def test_a_refusal_is_raised_with_the_answer(path, supervisor):
    supervisor.refusal = "the new code does not load"
    with running_control(path, supervisor):
        with pytest.raises(CommandRefusedError, match=r"^the new code does not load$") as raised:
            ask(path, "reload")
        assert raised.value.answer == {"ok": False, "error": "the new code does not load"}


def test_a_refused_client_hears_why(path, supervisor):
    with running_control(path, supervisor), contextlib.ExitStack() as stack:
        for _ in range(MAX_CLIENTS):
            stack.enter_context(ControlConnection(path)).ask("status")
        with pytest.raises(CommandRefusedError, match="16 clients are connected"):
            ask(path, "status")


def test_a_command_that_takes_too_long(path, supervisor):
    supervisor.held = trio.Event()
    with (
        running_control(path, supervisor),
        pytest.raises(ControlTimeoutError, match=r"gave no answer to reload within 0\.01 s"),
    ):
        ask(path, "reload", timeout_seconds=0.01)


def test_the_end_of_the_supervisor_is_noticed(path, supervisor):
    with running_control(path, supervisor), ControlConnection(path) as connection:
        with pytest.raises(ControlTimeoutError):
            connection.wait_until_closed(0.01)
        connection.ask("stop")
        connection.wait_until_closed(PATIENCE_SECONDS)
    with pytest.raises(ControlError, match="There is no control socket"):
        ask(path, "status")


@contextlib.contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Answer the first request of one client with any bytes, and close."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1)
        listening.settimeout(PATIENCE_SECONDS)

        def serve() -> None:
            with listening.accept()[0] as accepted:
                accepted.settimeout(PATIENCE_SECONDS)
                accepted.recv(1000)
                accepted.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(PATIENCE_SECONDS)


def test_what_was_said_before_the_request_is_heard(path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1)
        with ControlConnection(path) as connection:
            with listening.accept()[0] as accepted:
                accepted.sendall(b'{"ok": false, "error": "too many"}\n')
            with pytest.raises(CommandRefusedError, match="too many"):
                connection.ask("status")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "closed the connection without an answer: its supervisor has ended"),
        (b'{"ok": true', "closed the connection without an answer"),
        (b"HTTP/1.1 400 Bad Request\n", "something else listens there"),
        (b"[1]\n", "something else listens there"),
        (b"{}\n", "something else listens there"),
        (b"[" * 60_000 + b"\n", "something else listens there"),
    ],
)
def test_an_answer_that_is_none(answer, sentence, path):
    with answering(path, answer), pytest.raises(ControlError, match=sentence):
        ask(path, "status")


def test_a_missing_supervisor_is_told(path):
    with pytest.raises(ControlError, match=f"There is no control socket {path}: no supervisor"):
        ask(path, "status")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        with pytest.raises(ControlError, match=f"Nobody listens at {path}: its supervisor is gone"):
            ask(path, "status")
    path.unlink()
    path.write_text("a file")
    with pytest.raises(ControlError, match=f"{path} is no socket"):
        ask(path, "status")
    with pytest.raises(ControlError, match=f"There is no control socket {path}/below"):
        ask(path / "below", "status")
    with pytest.raises(ControlError, match="can't be reached: AF_UNIX path too long"):
        ask(path.parent / ("x" * 200), "status")


def test_a_supervisor_that_accepts_nobody(path):
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as stack:
        listening.bind(str(path))
        listening.listen(0)

        def fill_the_queue() -> None:
            for _ in range(10):  # how many fit is the kernel's own affair
                stack.enter_context(ControlConnection(path, timeout_seconds=0.05))

        with pytest.raises(ControlTimeoutError, match=r"accepted no connection within 0\.05 s"):
            fill_the_queue()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")
def test_another_user_is_refused(path, supervisor):
    path.parent.chmod(0o755)
    with running_control(path, supervisor):
        os.seteuid(NOBODY)
        try:
            with pytest.raises(ControlError, match=r"No permission for .* as root"):
                ask(path, "status")
        finally:
            os.seteuid(0)


def test_each_command_has_a_row_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/ctl.md").read_text("utf-8")
    assert [name for name in COMMANDS if f'`{{"command": "{name}"' not in page] == []
    # A probe's is none for a person: `nginx --check --probe` sends it.
    assert [name for name in COMMANDS.keys() - {"probe"} if f"`ctl {name}" not in page] == []
