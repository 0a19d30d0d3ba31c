"""When Nginx's errors are a restart's own doing; `integration/test_dev_tabs.py` has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from uwsgibridge.cli import behind_nginx as development
from uwsgibridge.cli.behind_nginx import Development, _Runner
from uwsgibridge.client import PingError
from uwsgibridge.connection.sockets import open_sockets
from uwsgibridge.frontend.error_lines import ErrorLines


@pytest.mark.parametrize("answers", [True, False])
def test_restart_breaks_nothing_off_once_the_next_bridge_has_answered(
    answers: bool, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    def ping(address: str, *, timeout_seconds: float) -> float:
        if not answers:
            raise PingError(f"{address} is silent for {timeout_seconds} s")
        return 0.001

    monkeypatch.setattr(development, "ping", ping)
    ready: list[str] = []
    errors = ErrorLines(lambda _line: None)
    what = Development(
        arguments=(), port=0, nginx=None, watch=None, ready=ready.append, say=ready.append
    )

    async def main() -> None:
        await runner._announce()
        await runner._announce()
        errors.close()
        await errors.relay()

    with open_sockets([f"unix:{directory}/socket"], mode="0600", backlog=1) as (listening,):
        runner = _Runner(what, listening, "http://127.0.0.1:8080", errors)
        errors.breaks_off = True
        trio.run(main)
    assert errors.breaks_off is not answers
    assert ready == (["http://127.0.0.1:8080"] if answers else [])
