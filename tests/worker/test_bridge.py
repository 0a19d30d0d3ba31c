"""The bridge of the tests: what goes wrong in it is told, and keeps nobody from ending."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests import bridge as bridge_module
from tests.bridge import Bridge, running
from tests.gil import looks_at_frames
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet
from uwsgibridge.loop.asyncio_loop import AsyncioLoop

SHORT_SECONDS = 0.2


def app(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    return [b""]


def bridge_threads() -> list[threading.Thread]:
    return [it for it in threading.enumerate() if it.name == "bridge"]


def test_a_bridge_that_starts_too_late_is_stopped(monkeypatch: pytest.MonkeyPatch):
    gate = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(bridge_module, "PATIENCE_SECONDS", SHORT_SECONDS)
        with (
            pytest.raises(AssertionError, match=r"did not start in time(.|\n)*gate\.wait"),
            running(app, before=lambda: gate.wait(PATIENCE_SECONDS)),
        ):
            raise LookupError

    threads = bridge_threads()
    gate.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert threads
    assert bridge_threads() == []


@looks_at_frames
def test_a_bridge_that_does_not_stop_says_where_it_is(monkeypatch: pytest.MonkeyPatch):
    entered, gate = threading.Event(), threading.Event()

    def waits(environ: Any, start_response: Any) -> Any:
        entered.set()
        assert gate.wait(PATIENCE_SECONDS)
        return app(environ, start_response)

    def stop_amid_a_request() -> None:
        with running(waits) as bridge, connect(bridge.address) as connection:
            connection.sendall(packet())
            assert entered.wait(PATIENCE_SECONDS)
            monkeypatch.setattr(bridge_module, "PATIENCE_SECONDS", SHORT_SECONDS)

    with pytest.raises(AssertionError, match=r"did not stop in time(.|\n)*gate\.wait"):
        stop_amid_a_request()
    gate.set()
    for thread in bridge_threads():
        thread.join(PATIENCE_SECONDS)
    assert bridge_threads() == []


def test_a_stop_that_comes_too_late_hides_nothing(monkeypatch: pytest.MonkeyPatch):
    ended, asked = threading.Event(), threading.Event()
    serve, wait_stopped = Bridge._serve, Bridge.wait_stopped

    async def fail_at_its_end(self: Bridge, host_loop: AsyncioLoop | None) -> None:
        await serve(self, host_loop)
        raise LookupError

    def tell_later(error: BaseException) -> BaseException:
        ended.set()
        assert asked.wait(PATIENCE_SECONDS)
        return error

    def wait(self: Bridge) -> None:
        asked.set()
        wait_stopped(self)

    monkeypatch.setattr(Bridge, "_serve", fail_at_its_end)
    monkeypatch.setattr(Bridge, "wait_stopped", wait)
    monkeypatch.setattr(bridge_module, "_detach", tell_later)

    def stop_what_has_ended() -> None:
        with running(app) as bridge:
            bridge.begin_stop()
            # Its loop has ended, and its thread has not said so yet.
            assert ended.wait(PATIENCE_SECONDS)

    with pytest.raises(LookupError):
        stop_what_has_ended()


def test_a_bridge_that_hangs_does_not_keep_python_from_ending():
    program = (
        "import threading\n"
        "from tests import bridge\n"
        f"bridge.PATIENCE_SECONDS = {SHORT_SECONDS}\n"
        "with bridge.running(print, before=threading.Event().wait): pass\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_SECONDS,
        check=False,
    )
    assert "did not start in time" in ended.stderr
    assert ended.returncode == 1
