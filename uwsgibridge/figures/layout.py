"""The form of the memory that a worker counts in; it outlives the worker, so that a kill loses no count.

All numbers are cells of eight bytes. A cell has one writer, so that no count needs a lock or an atomic instruction. Who
reads may be another process, and of another version: the memory begins with a header that describes the rest.

After the header come the named counters, the histograms of the worker itself, the arrivals, and the blocks. Each
thread that answers requests of a mount has a block of its own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from uwsgibridge.quick_dataclass import dataclass

CELL_BYTES: Final = 8

# The header is the length of its text, and the text, which is JSON. It takes whole pages.
_LENGTH: Final = struct.Struct("=I")
_PAGE_BYTES: Final = 4096
_MAX_HEADER_BYTES: Final = 1 << 20

# The version of everything that the header does not describe.
_FORM: Final = 1

# The methods of requests that are told apart; the last one stands for all others.
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")

# What has become of a request: the class of its status; an answer that was broken off; no answer, since the client had
# gone, or the connection was broken before the head.
OUTCOMES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "cut", "none")
CUT: Final = 5
NONE: Final = 6

# Cells for the outcomes of one method.
ROW: Final = 8

# What is measured of each request, in seconds: how long it was on its way from the frontend, waited here, ran before
# the answer began, took until the answer was sent, and the sum of what was here.
TIMES: Final = ("frontend", "queue", "application", "send", "total")

# What is measured of the worker itself.
LAG: Final = 0
GIL: Final = 1
COLLECTIONS: Final = (2, 3, 4)  # of the garbage collector's generations
OWN_HISTOGRAMS: Final = ("event_loop_lag", "gil_wait", "gc_0", "gc_1", "gc_2")
OWN_BOUNDS: Final = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

# The named counter of the CPU time that workers have used.
CPU_MILLISECONDS: Final = "cpu_milliseconds"

# Labels in the place of a mount: of requests that no application got, and of those for files.
NO_MOUNT: Final = "none"
FILES: Final = "files"

# Of a block. The first two say which cell is about to become which number: `Recorder.mark`.
PENDING_CELL: Final = 0
PENDING_VALUE: Final = 1
RECEIVED: Final = 2
SENT: Final = 3
MESSAGES_IN: Final = 4
MESSAGES_OUT: Final = 5
REQUESTS: Final = 8
FIRST_HISTOGRAM: Final = REQUESTS + len(METHODS) * ROW

# A named counter is its name, with zeros behind, and its number.
NAMED: Final = 96
NAME_CELLS: Final = 5
NAMED_CELLS: Final = NAME_CELLS + 1

# Cells of a cache line: threads that write at the same time write to different ones.
LINE: Final = 8


def request_cell(method: int, outcome: int) -> int:
    """Give the cell of a block that counts requests by the indexes of method and outcome."""
    return REQUESTS + method * ROW + outcome


def label_of(prefix: str) -> str:
    """Give the label of a mount; the prefix of an application at the root is empty."""
    return prefix or "/"


def outcome_of(status: int, *, is_complete: bool) -> int:
    """Give the index of an outcome.

    Args:
        status: the code that the client got; 0 where it got none.
        is_complete: whether it got the whole answer.
    """
    if not status:
        return NONE
    # A code that is not of these classes is one of 599 and more, which some applications make up.
    return min(status // 100, 5) - 1 if is_complete else CUT


@dataclass(frozen=True)
class Layout:
    """Where everything is.

    Attributes:
        mounts: the labels of what requests are counted by.
        bounds: upper bounds of the histograms of requests, in seconds, growing.
        arrivals: how many writers there may be that accept.
        blocks: how many blocks there may be.
    """

    mounts: tuple[str, ...]
    bounds: tuple[float, ...]
    arrivals: int
    blocks: int

    @cached_property
    def histogram_cells(self) -> int:
        """Cells of a histogram of requests: a count for each range, and the sum in nanoseconds."""
        return len(self.bounds) + 2

    @cached_property
    def block_cells(self) -> int:
        """Cells of a block."""
        cells = FIRST_HISTOGRAM + len(TIMES) * self.histogram_cells
        return -(-cells // LINE) * LINE

    @cached_property
    def own_start(self) -> int:
        """The first cell of the worker's own histograms; those before are named counters."""
        return NAMED * NAMED_CELLS

    @cached_property
    def arrivals_start(self) -> int:
        """The first cell of the arrivals."""
        return self.own_start + len(OWN_HISTOGRAMS) * (len(OWN_BOUNDS) + 2)

    @cached_property
    def table_start(self) -> int:
        """The first cell of the table that has, for each block, the number of its mount from 1 on; 0 is unused."""
        start = -(-self.arrivals_start // LINE) * LINE
        return start + self.arrivals * LINE

    @cached_property
    def blocks_start(self) -> int:
        """The first cell of the blocks."""
        return -(-(self.table_start + self.blocks) // LINE) * LINE

    @cached_property
    def header(self) -> bytes:
        """The header, as whole pages."""
        text = json.dumps(
            {
                "form": _FORM,
                "mounts": self.mounts,
                "bounds": self.bounds,
                "arrivals": self.arrivals,
                "blocks": self.blocks,
            }
        ).encode()
        size = _LENGTH.size + len(text)
        return (_LENGTH.pack(len(text)) + text).ljust(-(-size // _PAGE_BYTES) * _PAGE_BYTES, b"\0")

    @cached_property
    def size_bytes(self) -> int:
        """The size of the memory, with its header."""
        cells = self.blocks_start + self.blocks * self.block_cells
        return len(self.header) + CELL_BYTES * cells

    def own_histogram(self, which: int) -> int:
        """The first cell of one of the worker's own histograms."""
        return self.own_start + which * (len(OWN_BOUNDS) + 2)

    def arrival(self, which: int) -> int:
        """The cell of one writer that accepts."""
        return -(-self.arrivals_start // LINE) * LINE + which * LINE

    def block(self, which: int) -> int:
        """The first cell of a block."""
        return self.blocks_start + which * self.block_cells

    @staticmethod
    def plan(prefixes: Iterable[str], bounds: Sequence[float], threads: int) -> Layout:
        """Make the layout of a worker.

        Args:
            prefixes: of the applications.
            bounds: as of the attribute.
            threads: of each application; there may be twice as many, with those that are lost.
        """
        labels = dict.fromkeys(map(label_of, prefixes))
        most_threads = 2 * threads
        return Layout(
            mounts=(NO_MOUNT, FILES, *labels),
            bounds=tuple(bounds),
            # One for the loop, and one for each thread where they accept by themselves.
            arrivals=1 + most_threads,
            # Each mount has one for who gives requests up, or for its event loop.
            blocks=2 + len(labels) * (most_threads + 2),
        )

    @staticmethod
    def of_header(memory: memoryview) -> Layout | None:
        """Read the header of a memory; None of another version, or where nothing was written yet."""
        try:
            (length,) = _LENGTH.unpack_from(memory)
            if length > _MAX_HEADER_BYTES:
                return None
            told: Mapping[str, Any] = json.loads(
                bytes(memory[_LENGTH.size : _LENGTH.size + length])
            )
            if told["form"] != _FORM:
                return None
            return Layout(
                tuple(told["mounts"]), tuple(told["bounds"]), told["arrivals"], told["blocks"]
            )
        except (struct.error, ValueError, KeyError, TypeError):
            return None
