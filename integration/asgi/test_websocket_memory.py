"""What clients of WebSockets can make a worker hold: the limit and a margin each, and nothing afterwards."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from integration.asgi.conftest import Kind, on_each_loop
from integration.asgi.frames import (
    BINARY,
    CLOSE,
    RSV1,
    TEXT,
    Close,
    FrameClient,
    encode_frame,
    offer,
)
from integration.asgi.resident_memory import (
    bytes_at_rest,
    forget_peak,
    peak_bytes,
    resident_bytes,
)
from integration.wsgi.fetching import fetch

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

KIB = 1024
MIB = 1024 * KIB

LIMIT_BYTES = MIB

# Where none is set. The allocator would keep as much.
DEFAULT_LIMIT_BYTES = 16 * MIB

# Beyond the limit: what waits for the application; and what was read, and is to be sent.
MARGIN_BYTES = MIB + 128 * KIB

# How much memory the allocator, the sockets and the interpreter take in any case.
NOISE_BYTES = 5 * MIB

CLIENTS = 12
TIMES = 6

pytestmark = on_each_loop


@pytest.fixture
def spacious(kind: Kind, serve: Callable[..., LocalStack]) -> Iterator[LocalStack]:
    """One with the limit that there is where none is set."""
    stack = serve(
        "hoarding:application", kind, serve_args=("--websocket-deflate", "--lifespan", "off")
    )
    yield stack
    stack.stop()


@pytest.fixture
def hoard(kind: Kind, serve: Callable[..., LocalStack]) -> Iterator[LocalStack]:
    """A worker of its own: what other tests left is not its memory."""
    stack = serve(
        "hoarding:application",
        kind,
        serve_args=(
            "--websocket-deflate", "--websocket-max-message-bytes", str(LIMIT_BYTES),
            "--websocket-ping-seconds", "0", "--lifespan", "off",
        ),
    )  # fmt: skip
    yield stack
    stack.stop()


def deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
        b"\x00\x00\xff\xff"
    )


def connected(stack: LocalStack) -> FrameClient:
    client = FrameClient(stack.url, "/", headers=offer("permessage-deflate"))
    assert client.status == 101
    return client


def test_well_compressed_messages_wait_compressed(hoard: LocalStack) -> None:
    """A client's 64 KiB may be the form of 64 MiB; it takes the limit and the margin."""
    message = encode_frame(TEXT, deflate(b" " * LIMIT_BYTES), rsv=RSV1)
    count = 64 * KIB // len(message)
    assert count > 40
    pid = hoard.bridge.pid

    def everyone_sends(number: int) -> None:
        with ExitStack() as clients:
            everyone = [clients.enter_context(connected(hoard)) for _ in range(number)]
            for client in everyone:
                client.send_bytes(message * count)
                client.send(TEXT, b"how many?")
            assert fetch(f"{hoard.url}/").body == b"%d" % number
            fetch(f"{hoard.url}/go")
            for client in everyone:
                frame = client.receive()
                assert frame is not None
                counted = zlib.decompress(frame.payload + b"\x00\x00\xff\xff\x03\x00", wbits=-15)
                assert counted == b"%d" % count

    everyone_sends(1)  # what it makes the worker import is not the others' share
    before = resident_bytes(pid)
    forget_peak(pid)
    everyone_sends(CLIENTS)
    # The allocator keeps some of what it once got; more of the same needs no more.
    peak, after = peak_bytes(pid), bytes_at_rest(pid, before + 2 * NOISE_BYTES)
    everyone_sends(CLIENTS)
    last = bytes_at_rest(pid, after + 2 * MIB)
    figures = ", ".join(f"{size / MIB:.1f}" for size in (before, peak, after, last))
    assert peak - before < CLIENTS * (LIMIT_BYTES + MARGIN_BYTES) + NOISE_BYTES, figures
    assert after - before <= 2 * NOISE_BYTES, figures
    assert last - after <= 2 * MIB, figures


@pytest.mark.parametrize("kind_of_message", ["compressed", "plain", "fragments"])
def test_messages_over_the_limit_leave_nothing(spacious: LocalStack, kind_of_message: str) -> None:
    if kind_of_message == "compressed":
        sent = encode_frame(BINARY, deflate(bytes(2 * DEFAULT_LIMIT_BYTES)), rsv=RSV1)
    elif kind_of_message == "plain":
        sent = encode_frame(BINARY, bytes(DEFAULT_LIMIT_BYTES + 1))
    else:
        sent = encode_frame(BINARY, bytes(DEFAULT_LIMIT_BYTES - 1), fin=False) + encode_frame(
            0, b"12"
        )
    pid = spacious.bridge.pid

    def send_too_much() -> None:
        with connected(spacious) as client:
            client.send_bytes(sent)
            frame = client.receive()
            assert frame is not None
            assert frame.opcode == CLOSE
            assert Close.parse(frame.payload).code == 1009

    for _ in range(2):  # what the first ones make the worker import and allocate is not theirs
        send_too_much()
    fetch(f"{spacious.url}/go")
    before = resident_bytes(pid)
    forget_peak(pid)
    for _ in range(TIMES):
        send_too_much()
        fetch(f"{spacious.url}/go")
    after, peak = bytes_at_rest(pid, before + NOISE_BYTES), peak_bytes(pid)
    figures = f"MiB before, at peak, after: {before / MIB:.1f}, {peak / MIB:.1f}, {after / MIB:.1f}"
    assert after - before <= NOISE_BYTES, figures
    assert peak - before < (DEFAULT_LIMIT_BYTES + MARGIN_BYTES) + NOISE_BYTES, figures
