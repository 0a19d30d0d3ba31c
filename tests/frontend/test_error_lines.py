"""Which of Nginx's errors reach a person while answers are being broken off, and which always do."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing

from uwsgibridge.frontend.error_lines import ErrorLines

PATIENCE_SECONDS = 60.0
OF = (
    ', client: 127.0.0.1, server: localhost, request: "GET /events HTTP/1.1", '
    'upstream: "uwsgi://unix:/tmp/bridge.sock:", host: "localhost"'
)
START = "2026/11/28 19:27:31 [error] 18935#18935: *2 "

BROKEN_OFF = [
    f"{START}recv() failed (104: Connection reset by peer) while reading upstream{OF}",
    f"{START}readv() failed (104: Connection reset by peer) while reading upstream{OF}",
    f"{START}upstream prematurely closed connection while reading upstream{OF}",
    f"{START}recv() failed (104: Connection reset by peer) while proxying upgraded connection{OF}",
    f"{START}send() failed (32: Broken pipe) while proxying upgraded connection{OF}",
    f"{START}recv() failed (54: Connection reset by peer) while reading upstream{OF}",
]

ERRORS = [
    # Its client gets 502.
    f"{START}recv() failed (104: Connection reset by peer) while reading response header from upstream{OF}",
    f"{START}upstream prematurely closed connection while reading response header from upstream{OF}",
    f"{START}connect() to unix:/tmp/bridge.sock failed (111: Connection refused) while connecting to upstream{OF}",
    f"{START}upstream sent too big header while reading response header from upstream{OF}",
    f"{START}upstream timed out (110: Connection timed out) while reading upstream{OF}",
    "nginx: [emerg] something else",
    "2026/11/28 19:27:31 [alert] 1#1: worker process 2 exited on signal 11",
]


async def handed_on(lines: list[str], *, breaks_off: bool, end: str = "\n") -> list[str]:
    got: list[str] = []
    errors = ErrorLines(got.append)
    errors.breaks_off = breaks_off
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(errors.relay)
            text = "".join(f"{line}\n" for line in lines).encode()
            for start in range(0, len(text), 100):
                os.write(errors.descriptor, text[start : start + 100])
                await trio.testing.wait_all_tasks_blocked()
            os.write(errors.descriptor, end.removesuffix("\n").encode())
            errors.close()
            errors.close()
    return got


@pytest.mark.trio
@pytest.mark.parametrize("line", BROKEN_OFF)
async def test_what_a_restart_breaks_off_is_left_out_only_then(line: str):
    assert await handed_on([line], breaks_off=True) == []
    assert await handed_on([line], breaks_off=False) == [f"{line}\n"]


@pytest.mark.trio
async def test_all_else_is_handed_on():
    mixed = [line for pair in zip(ERRORS, BROKEN_OFF, strict=False) for line in pair]
    expected = [f"{line}\n" for line in ERRORS[: len(BROKEN_OFF)]]
    assert await handed_on(mixed, breaks_off=True) == expected
    assert await handed_on(ERRORS, breaks_off=True) == [f"{line}\n" for line in ERRORS]


@pytest.mark.trio
async def test_line_without_an_end_is_handed_on():
    assert await handed_on(["one"], breaks_off=True, end="caf\xe9") == ["one\n", "caf\xe9\n"]
