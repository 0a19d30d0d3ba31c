"""An answer without Content-Length whose worker is killed: the frontend must not take what has come for all of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bridge_process import running_process
from tests.raw_client import connect, packet, read_until

APPS: Final = """
import tempfile, time

def wsgi(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/write":
        write(b"first")
        time.sleep(60)
    yield b"first"
    time.sleep(60)

async def asgi(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.http.response.start", "status": 200, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"first", "more_body": True})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/file":
            with tempfile.TemporaryFile() as file:
                file.write(b"first")
                file.flush()
                message = {"type": "http.response.zerocopysend", "file": file, "offset": 0}
                await send({**message, "more_body": True})
        else:
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
    time.sleep(60)
"""

HANDSHAKE: Final = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize("family", ["unix", "tcp"])
@pytest.mark.parametrize(
    ("interface", "path", "variables"),
    [
        ("wsgi", "/", {}),
        ("wsgi", "/write", {}),
        ("asgi", "/", {}),
        ("asgi", "/file", {}),
        ("asgi", "/", HANDSHAKE),
    ],
    ids=["wsgi", "wsgi-write", "asgi", "asgi-file", "asgi-denial"],
)
def test_it_is_broken(
    tmp_path: Path, interface: str, path: str, variables: dict[str, Any], family: str
) -> None:
    (tmp_path / "apps.py").write_text(APPS)
    arguments = [
        *("serve", f"apps:{interface}", "--interface", interface, "--log-format", "json"),
        *("--workers", "0", "--bind", f"unix:{tmp_path}/s" if family == "unix" else "127.0.0.1:0"),
    ]
    if interface == "asgi":
        arguments += ["--lifespan", "off"]
    with running_process(*arguments, directory=tmp_path) as process:
        (address,) = process.wait_listening(1)
        with connect(address) as connection:
            connection.sendall(packet(path, **variables))
            begun = read_until(connection, b"first")
            assert b"\r\n\r\nfirst" in begun
            assert b"Content-Length" not in begun
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
