"""Messages of all sizes in one buffer, and what is left when they are over."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import pytest

from uwsgibridge.protocol.message_buffer import SMALL_BYTES, MessageBuffer

SIZES = [0, 1, SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1, 3 * SMALL_BYTES]
STEP_BYTES = 10_007


def pattern(size: int) -> bytes:
    count = size // 4 + 1
    return struct.pack(f">{count}I", *range(count))[:size]


def fill(buffer: MessageBuffer, data: bytes) -> None:
    for start in range(0, len(data), STEP_BYTES):
        buffer.append(data[start : start + STEP_BYTES])
        assert len(buffer) == min(start + STEP_BYTES, len(data))


@pytest.mark.parametrize("size", SIZES)
def test_a_message_comes_out_as_it_went_in(size: int) -> None:
    buffer = MessageBuffer(3 * SMALL_BYTES)
    for _ in range(2):
        fill(buffer, pattern(size))
        assert buffer.take() == pattern(size)
        assert len(buffer) == 0


@pytest.mark.parametrize("size", SIZES)
def test_one_that_is_dropped_is_gone(size: int) -> None:
    buffer = MessageBuffer(3 * SMALL_BYTES)
    fill(buffer, pattern(size))
    buffer.clear()
    assert len(buffer) == 0
    fill(buffer, b"next")
    assert buffer.take() == b"next"


def test_a_system_without_so_much_memory_gets_a_smaller_buffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    buffer = MessageBuffer(1 << 62)
    fill(buffer, pattern(3 * SMALL_BYTES))
    assert buffer.take() == pattern(3 * SMALL_BYTES)


def test_what_is_large_is_given_back_at_once() -> None:
    """Whatever the allocator keeps: 64 MiB of a message are not there when it is over."""

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    size = 64 * 1024 * 1024
    buffer = MessageBuffer(size)
    piece = bytes(65_536)
    before = resident_bytes()
    for _ in range(size // len(piece)):
        buffer.append(piece)
    assert resident_bytes() - before > size * 9 // 10
    buffer.clear()
    assert resident_bytes() - before < size // 10
