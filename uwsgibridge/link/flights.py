"""What a worker holds at this moment, in memory that outlives it: for the report of a crash.

The listener receives each packet straight into a slot of a memory that the supervisor has mapped, too,
and the slot stays as it is until the request is over. So a worker that is killed has told what it was
doing, and a request costs no copy for that.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass
from typing import Final, Protocol

from uwsgibridge.protocol.errors import ProtocolError
from uwsgibridge.protocol.packet import (
    MAX_PACKET_BYTES,
    MAX_VARS_BYTES,
    MODIFIER_PING,
    PacketLimits,
    parse_packet,
)
from uwsgibridge.protocol.request import Request
from uwsgibridge.system.memory_file import make_memory_file

# One system call takes any packet whole, and what fits of the body behind it.
SLOT_BYTES: Final = MAX_PACKET_BYTES

# More than a worker with threads holds. Of an event loop's many requests, these are recorded.
SLOTS: Final = 64
_STARTS: Final = range(0, SLOTS * SLOT_BYTES, SLOT_BYTES)

# In the place of modifier1, where no packet of ours has them: a slot that holds nothing, and one that the
# next packet is awaited in.
_FREE: Final = 255
_AWAITED: Final = 254

# No limit: a packet that the worker has refused is not in a slot.
_ANY_NUMBER: Final = PacketLimits(max_vars=MAX_VARS_BYTES)

# Behind the slots: how many connections have sent no whole packet yet.
_COUNT_BYTES: Final = 4
_MEMORY_BYTES: Final = SLOTS * SLOT_BYTES + _COUNT_BYTES


class Recorded(Protocol):
    """What knows the slot that its request is recorded in."""

    slot: memoryview | None


@dataclass(frozen=True, slots=True)
class Flight:
    """A request that a worker held.

    Attributes:
        method: as the client sent it.
        path: without the query, which may hold secrets.
    """

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker held.

    Attributes:
        requests: that had arrived.
        connections: that were accepted, at the most, and had not sent a whole request.
    """

    requests: list[Flight]
    connections: int


def make_flight_file() -> int:
    """Make the memory of one worker; a descriptor that goes on when the worker has ended."""
    descriptor = make_memory_file("uwsgibridge-flights")
    os.ftruncate(descriptor, _MEMORY_BYTES)
    return descriptor


class FlightRecorder:
    """The worker's side: a slot to receive the next packet into, and the verbs that say what it holds.

    All belong to the listener's thread, but `end`, which any thread may call. They are called for each
    request, so none does more than it must.

    Args:
        descriptor: of `make_flight_file`; None records nothing.

    Attributes:
        scratch: where the next packet is received.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._free: list[memoryview] = []
        self._count: memoryview | None = None
        if descriptor is not None:
            memory = memoryview(mmap.mmap(descriptor, _MEMORY_BYTES))
            self._free = [memory[start : start + SLOT_BYTES] for start in _STARTS]
            self._count = memory[-_COUNT_BYTES:]
            for slot in self._free:
                slot[0] = _FREE
        self.scratch = self._free.pop() if self._free else memoryview(bytearray(SLOT_BYTES))

    def await_packet(self) -> None:
        """Note that the next connection may be accepted already, with nothing known of it."""
        self.scratch[0] = _AWAITED

    def drop_packet(self) -> None:
        """Note that there is no such connection, or that what was received is no request to record."""
        self.scratch[0] = _FREE

    def keep_packet(self, recorded: Recorded) -> None:
        """Leave the packet where it is until `end`, and receive the next one somewhere else.

        Where no other slot is free, the request is not recorded.
        """
        if self._free:
            recorded.slot, self.scratch = self.scratch, self._free.pop()
        else:
            self.scratch[0] = _FREE

    def end(self, recorded: Recorded) -> None:
        """Note that a request is over; does nothing where it is not recorded."""
        slot = recorded.slot
        if slot is not None:
            recorded.slot = None
            slot[0] = _FREE
            self._free.append(slot)

    def count_connections(self, count: int) -> None:
        """Note how many connections there are whose request is still on its way."""
        if self._count is not None:
            self._count[:] = count.to_bytes(_COUNT_BYTES, "little")


def read_flights(descriptor: int) -> Held:
    """Tell what a worker held when it ended; closes nothing."""
    if os.fstat(descriptor).st_size != _MEMORY_BYTES:
        return Held([], 0)  # from before an upgrade to a version with another form
    with contextlib.closing(mmap.mmap(descriptor, _MEMORY_BYTES)) as memory:
        connections = int.from_bytes(memory[-_COUNT_BYTES:], "little")
        connections += sum(memory[start] == _AWAITED for start in _STARTS)
        slots = [
            memory[start : start + SLOT_BYTES]
            for start in _STARTS
            if memory[start] not in {_FREE, _AWAITED, MODIFIER_PING}
        ]
    return Held([flight for slot in slots if (flight := _read(slot)) is not None], connections)


def _read(slot: bytes) -> Flight | None:
    try:
        packet = parse_packet(memoryview(slot), _ANY_NUMBER)
        if packet is None or not packet.vars:
            return None
        request = Request(packet)
    except ProtocolError:
        return None  # refused, or ended while it was written
    return Flight(request.method, request.path)
