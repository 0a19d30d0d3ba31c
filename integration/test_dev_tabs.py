"""`uwsgibridge dev` with a browser's tabs open: neither a save nor Ctrl-C waits for them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from integration.line_reader import LineReader

PATIENCE_SECONDS = 30.0

# A second for a stream whose application does not listen, or a WebSocket whose client does not answer,
# and some for a busy machine; less than requests have that do not end by themselves, which is 3 s.
SOON_SECONDS = 2.6

CODE = """
import os

import anyio

EVENTS = b"text/event-stream"
TYPES = {"/events": EVENTS, "/deaf": EVENTS, "/lines": b"text/plain", "/dies": EVENTS}


def piece(body, more=True):
    return {"type": "http.response.body", "body": body, "more_body": more}


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    content_type = TYPES[scope["path"]]
    headers = [(b"content-type", content_type), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send(piece(b"open"))
    if scope["path"] == "/dies":
        os._exit(70)
    if scope["path"] == "/deaf":
        while True:
            await anyio.sleep(0.1)
            await send(piece(b"more"))
    await receive()
    await receive()
"""

HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)


FAILS_LATE = """
import pathlib, time

print("loading", flush=True)
deadline = time.monotonic() + 30
while not pathlib.Path({fails!r}).exists() and time.monotonic() < deadline:
    time.sleep(0.01)
raise RuntimeError("not now")
"""

# As Nginx sends it: a head of four bytes, then the vars.
PACKET = b"\x00\x15\x00\x00\x0e\x00REQUEST_METHOD\x03\x00GET"


def tab(port: int, request: str, *, until: bytes = b"") -> socket.socket:
    """Open a connection as a browser keeps it, and read as far as that."""
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    connection.sendall(request.encode())
    seen = b""
    while until not in seen:
        piece = connection.recv(65_536)
        assert piece, seen
        seen += piece
    return connection


def get(path: str, headers: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"


def open_tabs(port: int) -> list[socket.socket]:
    return [
        *(tab(port, get(path), until=b"open") for path in ("/events", "/deaf", "/lines")),
        tab(port, get("/socket", HANDSHAKE), until=b"\r\n\r\n"),
        # Kept for a request that does not come, and left amid one.
        tab(port, ""),
        tab(port, "GET /events HT"),
    ]


@contextlib.contextmanager
def dev(directory: Path, loop: str) -> Iterator[tuple[subprocess.Popen[bytes], LineReader]]:
    process = subprocess.Popen(
        (
            *(sys.executable, "-m", "uwsgibridge", "dev", "tabs:app", "--port", "0"),
            *("--app-dir", str(directory), "--loop", loop, "--lifespan", "off"),
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={name: it for name, it in os.environ.items() if not name.startswith("UWSGIBRIDGE_")},
        cwd=directory,
        # Ctrl-C is for the test run, which stops it.
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        with LineReader(process.stdout) as lines:
            try:
                yield process, lines
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_neither_a_save_nor_an_interrupt_waits_for_open_tabs(loop: str, tmp_path: Path) -> None:
    code = tmp_path / "tabs.py"
    code.write_text(CODE)
    with dev(tmp_path, loop) as (process, lines), contextlib.ExitStack() as tabs:
        found = lines.wait_for(r"http://127\.0\.0\.1:(\d+)/ is up", PATIENCE_SECONDS)
        for one in open_tabs(int(found[1])):
            tabs.enter_context(one)
        code.write_text(CODE + "\n# saved\n")
        lines.wait_for("restarting", PATIENCE_SECONDS)
        began = monotonic()
        lines.wait_for(r"\] stopped", PATIENCE_SECONDS)
        assert monotonic() - began < SOON_SECONDS
        for one in open_tabs(int(found[1])):
            tabs.enter_context(one)
        began = monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert monotonic() - began < SOON_SECONDS + 1  # the end of two processes more
    said = lines.text()
    # Nor does Nginx complain of what a save and an interrupt break off.
    complaints = ("broken off", "exiting without", "Traceback", "[alert]", "[error")
    for complaint in complaints:
        assert complaint not in said, said


def test_stream_that_dies_with_its_process_is_an_error(tmp_path: Path) -> None:
    """Nobody has saved anything: what breaks off is a fault of the application, and Nginx says so."""
    code = tmp_path / "tabs.py"
    code.write_text(CODE)
    with dev(tmp_path, "asyncio") as (_process, lines):
        found = lines.wait_for(r"http://127\.0\.0\.1:(\d+)/ is up", PATIENCE_SECONDS)
        with tab(int(found[1]), get("/dies"), until=b"open"):
            lines.wait_for(
                r"\[error\] .* while (reading upstream|sending to client), .*GET /dies",
                PATIENCE_SECONDS,
            )


def test_tab_that_left_before_the_application_failed_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = tmp_path / "fails"
    (tmp_path / "tabs.py").write_text(FAILS_LATE.format(fails=str(fails)))
    # A unix socket's path has to be short.
    with tempfile.TemporaryDirectory() as short, contextlib.ExitStack() as stack:
        monkeypatch.setenv("TMPDIR", short)
        process, lines = stack.enter_context(dev(tmp_path, "asyncio"))
        lines.wait_for("loading", PATIENCE_SECONDS)
        (path,) = Path(short).glob("*/bridge.sock")
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as gone:
                gone.connect(str(path))
                gone.sendall(PACKET)
        with socket.socket(socket.AF_UNIX) as there:
            there.settimeout(PATIENCE_SECONDS)
            there.connect(str(path))
            there.sendall(PACKET)
            fails.touch()
            assert b" 503 " in there.recv(65_536)
        # Nor does one hold up the others that says nothing, as a probe of a port.
        with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as there:
            silent.connect(str(path))
            there.settimeout(PATIENCE_SECONDS)
            there.connect(str(path))
            there.sendall(PACKET)
            assert b" 503 " in there.recv(65_536)
        assert process.poll() is None
