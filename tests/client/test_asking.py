"""The client against a real bridge."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.uwsgi_server import (
    PATIENCE_SECONDS,
)
from uwsgibridge.client import (
    ping,
    request,
)

ECHO_APP = """
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("201 Created", [("X-Path", environ["PATH_INFO"]), ("X-Client", environ["REMOTE_ADDR"])])
    return [environ["REQUEST_METHOD"].encode(), b" ", body]
"""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Run `serve` on TCP and on a unix socket; gives both addresses."""
    directory = tmp_path_factory.mktemp("bridge")
    (directory / "echo_app.py").write_text(ECHO_APP)
    arguments = ["serve", "echo_app:app", "--app-dir", str(directory), "--log-format", "json"]
    binds = ["--bind", "127.0.0.1:0", "--bind", f"unix:{directory}/app.sock"]
    with subprocess.Popen(
        [sys.executable, "-m", "uwsgibridge", *arguments, *binds], stderr=subprocess.PIPE, text=True
    ) as process:
        # Ends the wait below for a bridge that never gets ready.
        watchdog = threading.Timer(PATIENCE_SECONDS, process.kill)
        watchdog.start()
        assert process.stderr is not None
        addresses: list[str] = []
        log: list[str] = []
        try:
            while len(addresses) < 2:
                log.append(process.stderr.readline())
                assert log[-1], f"the bridge ended early: {log}"
                event = json.loads(log[-1])
                if event["event"] == "listening":
                    addresses.append(event["address"])
            watchdog.cancel()
            yield addresses
        finally:
            watchdog.cancel()
            process.terminate()
            _, rest = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, "".join(log) + rest


@pytest.mark.parametrize("index", [0, 1], ids=["tcp", "unix"])
def test_a_real_bridge_is_pinged_and_requested(bridge: list[str], index: int) -> None:
    address = bridge[index]
    assert address.startswith(("127.0.0.1:", "unix:")[index])
    assert 0 < ping(address) < PATIENCE_SECONDS
    response = request(
        address,
        "/caf%C3%A9",
        method="PUT",
        body=b"x" * 200_000,
        vars={"REMOTE_ADDR": "192.0.2.7"},
    )
    assert (response.status, response.reason) == (201, "Created")
    assert response.header("X-Path") == "/caf\xc3\xa9"
    assert response.header("X-Client") == "192.0.2.7"
    assert response.body == b"PUT " + b"x" * 200_000
