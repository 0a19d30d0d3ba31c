"""What a worker holds at this moment, in memory that outlives it: for the report of a crash.

The listener receives each packet straight into a slot of a memory that the supervisor has mapped, too,
and the slot stays as it is until the request is over. So a worker that is killed has told what it was
doing, and a request costs no copy for that.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from uwsgibridge.protocol.errors import ProtocolError
from uwsgibridge.protocol.packet import (
    MAX_PACKET_BYTES,
    MODIFIER_PING,
    PacketLimits,
    parse_packet,
)

# One system call takes any packet whole, and what fits of the body behind it.
SLOT_BYTES: Final = MAX_PACKET_BYTES

# More than a worker with threads holds. Of an event loop's many requests, these are recorded.
SLOTS: Final = 64

# In the place of modifier1, where no packet of ours has it.
_FREE: Final = 255


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


def make_flight_file() -> int:
    """Make the memory of one worker; a descriptor that goes on when the worker has ended."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("uwsgibridge-flights")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SLOTS * SLOT_BYTES)
    return descriptor


class FlightRecorder:
    """The worker's side: slots to receive packets into.

    Attributes:
        free: the slots that hold nothing; taken by the listener, given back from any thread.

    Args:
        descriptor: of `make_flight_file`; None records nothing.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.free: list[memoryview] = []
        if descriptor is not None:
            memory = memoryview(mmap.mmap(descriptor, SLOTS * SLOT_BYTES))
            starts = range(0, SLOTS * SLOT_BYTES, SLOT_BYTES)
            self.free = [memory[start : start + SLOT_BYTES] for start in starts]
            for slot in self.free:
                slot[0] = _FREE

    def first(self) -> memoryview:
        """Give what the listener receives into at first."""
        return self.free.pop() if self.free else memoryview(bytearray(SLOT_BYTES))

    def end(self, recorded: Recorded) -> None:
        """Note that a request is over; does nothing where it is not recorded."""
        slot = recorded.slot
        if slot is not None:
            recorded.slot = None
            slot[0] = _FREE
            self.free.append(slot)


def read_flights(descriptor: int) -> Iterator[Flight]:
    """Tell what a worker held when it ended; closes nothing."""
    with contextlib.closing(mmap.mmap(descriptor, SLOTS * SLOT_BYTES)) as memory:
        for start in range(0, SLOTS * SLOT_BYTES, SLOT_BYTES):
            if memory[start] in {_FREE, MODIFIER_PING}:
                continue
            try:
                packet = parse_packet(
                    memoryview(memory[start : start + SLOT_BYTES]), PacketLimits()
                )
            except ProtocolError:
                continue  # ended while it was written
            if packet is not None and packet.vars:
                variables = packet.vars
                path = variables.get("SCRIPT_NAME", "") + variables.get("PATH_INFO", "")
                yield Flight(variables.get("REQUEST_METHOD", "GET"), path or "/")
