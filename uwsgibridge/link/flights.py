"""Records the requests that a worker holds, in memory that outlives the worker: for the report of a crash.

The listener receives each packet into a slot of a memory file, which the supervisor can read. The slot stays as
it is until the request is over. So the supervisor can tell what a killed worker was doing, and no request
costs a copy.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Iterator
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
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.system.memory_file import make_memory_file

# One system call receives any packet whole, and as much of the body as fits after it.
SLOT_BYTES: Final = MAX_PACKET_BYTES

# More requests than a worker with threads holds. An event loop may hold more: the others are not recorded.
SLOTS: Final = 64
_STARTS: Final = range(0, SLOTS * SLOT_BYTES, SLOT_BYTES)

# The first byte of a slot is that of its packet, modifier1. These values, which no packet of ours has, say that
# the slot is free, and that it awaits the next packet.
_FREE: Final = 255
_AWAITED: Final = 254

# What a slot that was never used begins with; as the head of a packet, it says that there are no vars.
_UNUSED: Final = bytes(4)

# No limit is needed: a packet that the worker has refused is in no slot.
_ANY_NUMBER: Final = PacketLimits(max_vars=MAX_VARS_BYTES)

# After the slots, the memory has the number of connections that have sent no whole packet yet.
_COUNT_BYTES: Final = 4
_MEMORY_BYTES: Final = SLOTS * SLOT_BYTES + _COUNT_BYTES

# Behind that, at the next page, the worker counts: `uwsgibridge.figures.memory`.
FIGURES_OFFSET: Final = -(-_MEMORY_BYTES // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


class Recorded(Protocol):
    """What a request is recorded by: it knows the slot."""

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
        requests: the requests that had arrived.
        connections: how many accepted connections, at the most, had sent no whole packet.
    """

    requests: list[Flight]
    connections: int


def make_flight_file(figures_bytes: int = 0) -> int:
    """Make the memory file of one worker; give its descriptor, which can be read when the worker has ended.

    Args:
        figures_bytes: how much of it the figures take.
    """
    descriptor = make_memory_file("uwsgibridge-flights")
    os.ftruncate(descriptor, FIGURES_OFFSET + figures_bytes if figures_bytes else _MEMORY_BYTES)
    return descriptor


class FlightRecorder:
    """The worker's side: the slot that receives the next packet, and methods that say what the slot holds.

    All methods belong to the thread that accepts, except `end`, which any thread may call. Most are called for
    each request, so none of those does more than it must.

    Args:
        descriptor: from `make_flight_file`; None records nothing.

    Attributes:
        scratch: where the next packet is received.
        free_slots: the slots that hold no packet. It stays the same list, which any thread changes, under the
            interpreter's own lock.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.free_slots: list[memoryview] = []
        self._ending = threading.Lock()
        self._count: memoryview | None = None
        if descriptor is not None:
            memory = mmap.mmap(descriptor, _MEMORY_BYTES)
            # A memoryview of its own for each, which counts its slices: without the GIL, that count must not be
            # changed by two threads at a time.
            self.free_slots = [memoryview(memory)[it : it + SLOT_BYTES] for it in _STARTS]
            self._count = memoryview(memory)[-_COUNT_BYTES:]
            # No slot is marked as free here: that would cost a page of memory for each.
        self.scratch = (
            self.free_slots.pop() if self.free_slots else memoryview(bytearray(SLOT_BYTES))
        )

    def for_another_thread(self) -> FlightRecorder:
        """Make the recorder of a thread that accepts beside this one: it shares the free slots, and has its own `scratch`."""
        other = FlightRecorder()
        if self.free_slots:
            other.free_slots = self.free_slots
            other.scratch = self.free_slots.pop()
        return other

    def await_packet(self) -> None:
        """Mark the slot as awaiting a packet: the next connection may be accepted from now on."""
        self.scratch[0] = _AWAITED

    def drop_packet(self) -> None:
        """Mark the slot as free: no connection was accepted, or it brought no request to record."""
        self.scratch[0] = _FREE

    def keep_packet(self, recorded: Recorded) -> None:
        """Keep the packet in its slot until `end`, and receive the next packet into another slot.

        Where no other slot is free, the request is not recorded.
        """
        if self.free_slots:
            recorded.slot, self.scratch = self.scratch, self.free_slots.pop()
        else:
            self.scratch[0] = _FREE

    def end(self, recorded: Recorded) -> None:
        """Free the slot of a request that is over; do nothing where it has none."""
        # A thread that comes back late ends its request as well as who has given it up: one of them frees the slot.
        with self._ending:
            slot, recorded.slot = recorded.slot, None
        if slot is not None:
            slot[0] = _FREE
            self.free_slots.append(slot)

    def count_connections(self, count: int) -> None:
        """Record how many connections have sent no whole packet yet."""
        if self._count is not None:
            self._count[:] = count.to_bytes(_COUNT_BYTES, "little")


def read_flights(descriptor: int) -> Held:
    """Tell what a worker held when it ended; leave the descriptor open."""
    size = os.fstat(descriptor).st_size
    if not (size == _MEMORY_BYTES or size > FIGURES_OFFSET):
        return Held([], 0)  # a worker from before an upgrade, whose version had another form
    with contextlib.closing(mmap.mmap(descriptor, _MEMORY_BYTES)) as memory:
        connections = int.from_bytes(memory[-_COUNT_BYTES:], "little")
        connections += sum(memory[start] == _AWAITED for start in _STARTS)
        slots = [
            memory[start : start + SLOT_BYTES]
            for start in _STARTS
            if memory[start] not in {_FREE, _AWAITED, MODIFIER_PING}
            and memory[start : start + len(_UNUSED)] != _UNUSED
        ]
    return Held([flight for slot in slots if (flight := _read(slot)) is not None], connections)


@contextlib.contextmanager
def figures_of(descriptor: int) -> Iterator[memoryview | None]:
    """Give what a worker counts in, as it is now; None of a version that has none, or where it can't be read.

    Args:
        descriptor: from `make_flight_file`; it stays open.
    """
    size = os.fstat(descriptor).st_size - FIGURES_OFFSET
    if size <= 0:
        yield None
        return
    with (
        mmap.mmap(descriptor, size, prot=mmap.PROT_READ, offset=FIGURES_OFFSET) as memory,
        memoryview(memory) as view,
    ):
        yield view


def _read(slot: bytes) -> Flight | None:
    try:
        packet = parse_packet(memoryview(slot), _ANY_NUMBER)
        if packet is None or not packet.vars:
            return None
        request = Request(packet)
    except ProtocolError:
        return None  # a refused packet, or one that was being written at the worker's end
    return Flight(request.method, request.path)
