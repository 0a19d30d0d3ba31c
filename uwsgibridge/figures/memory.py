"""The worker's side of the memory that it counts in."""

from __future__ import annotations

import gc
import mmap
import threading
from time import monotonic, process_time, sleep
from typing import Final

from uwsgibridge.figures.layout import (
    COLLECTIONS,
    CPU_MILLISECONDS,
    GIL,
    LAG,
    NAME_CELLS,
    NAMED,
    NAMED_CELLS,
    OWN_BOUNDS,
    Layout,
)
from uwsgibridge.figures.recorder import Recorder, SharedRecorder, make_recorder, observe

# What stands for further names where the table of named counters is full, which a defect alone would fill.
_OTHER_NAME: Final = "other"

_NAME_BYTES: Final = NAME_CELLS * 8


class NamedCounters:
    """Counters that are made when they are first counted; each name is told to who reads the memory.

    Args:
        cells: where they are; `NAMED` times `NAMED_CELLS`.
    """

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._places: dict[str, int] = {}
        self._lock = threading.Lock()

    def count(self, name: str, by: int = 1) -> None:
        """Count; from any thread."""
        with self._lock:
            self._cells[self._place(name)] += by

    def value(self, name: str) -> int:
        """Give the count of one name."""
        place = self._places.get(name)
        return 0 if place is None else int(self._cells[place])

    def names(self) -> list[str]:
        """List the names that were counted."""
        return list(self._places)

    def _place(self, name: str) -> int:
        place = self._places.get(name)
        if place is not None:
            return place
        if len(self._places) >= NAMED - 1 and name != _OTHER_NAME:
            return self._place(_OTHER_NAME)
        start = len(self._places) * NAMED_CELLS
        text = name.encode()[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
        self._cells[start : start + NAME_CELLS] = memoryview(text).cast("Q")
        self._places[name] = start + NAME_CELLS
        return start + NAME_CELLS


class Recorders:
    """Makes the recorders of one mount.

    Args:
        memory: where they record.
        label: of the mount.

    Attributes:
        label: as given.
        shared: for threads that have no recorder of their own.
    """

    def __init__(self, memory: FiguresMemory, label: str) -> None:
        self._memory = memory
        self.label = label
        self._last = memory.make_recorder(label)
        assert self._last is not None, "the layout has a block for this"
        self.shared: Recorder = SharedRecorder(self._last)

    def make(self) -> Recorder:
        """Make the recorder of one thread."""
        made = self._memory.make_recorder(self.label)
        if made is not None:
            self._last = made
        # More threads than the layout was made for share the last recorder.
        assert self._last is not None
        return self._last


class FiguresMemory:
    """The memory that a worker counts in.

    Args:
        layout: what it holds.
        descriptor: of a file that other processes read; None for memory of this process alone.
        offset: where it begins in the file: at a page.
    """

    def __init__(self, layout: Layout, descriptor: int | None = None, offset: int = 0) -> None:
        self.layout = layout
        size = layout.size_bytes
        memory: mmap.mmap | bytearray = (
            bytearray(size) if descriptor is None else mmap.mmap(descriptor, size, offset=offset)
        )
        whole = memoryview(memory)
        self.memory = whole.toreadonly()
        self._cells = whole[len(layout.header) :].cast("Q")
        self.named = NamedCounters(self._cells[: layout.own_start])
        self._arrivals = 0
        self._blocks = 0
        self._lock = threading.Lock()
        self._collection_began = 0.0
        self._cpu_milliseconds = 0
        # Last, so that nobody reads what is not there.
        whole[: len(layout.header)] = layout.header

    def make_arrival_cell(self) -> memoryview:
        """Make the two cells of one thread that accepts: of `RequestCount`."""
        with self._lock:
            # A further writer than were foreseen shares the last cell.
            which = min(self._arrivals, self.layout.arrivals - 1)
            self._arrivals += 1
        place = self.layout.arrival(which)
        return self._cells[place : place + 2]

    def make_recorder(self, label: str) -> Recorder | None:
        """Make the recorder of a thread for a mount; None where all blocks are in use."""
        mounts = self.layout.mounts
        mount = mounts.index(label) if label in mounts else 0
        with self._lock:
            if self._blocks == self.layout.blocks:
                return None
            which, self._blocks = self._blocks, self._blocks + 1
        start = self.layout.block(which)
        recorder = make_recorder(
            self._cells[start : start + self.layout.block_cells], self.layout.bounds
        )
        self._cells[self.layout.table_start + which] = mount + 1
        return recorder

    def observe_lag(self, seconds: float) -> None:
        """Record how long the event loop has left something that was due; from the loop's thread."""
        self._observe(LAG, seconds)

    def sample_gil_wait(self) -> None:
        """Record how long this thread waits for the interpreter's lock if it lets it go; from the loop's thread."""
        began = monotonic()
        sleep(0)
        self._observe(GIL, monotonic() - began)

    def note_cpu_time(self) -> None:
        """Count the CPU time that this process has used since this was called last; from the loop's thread."""
        now = int(process_time() * 1000)
        self.named.count(CPU_MILLISECONDS, now - self._cpu_milliseconds)
        self._cpu_milliseconds = now

    def watch_collections(self) -> None:
        """Record the pauses of the garbage collector from now on."""
        gc.callbacks.append(self._on_collection)

    def _on_collection(self, phase: str, facts: dict[str, int]) -> None:
        # A collection has one thread, and no second one begins meanwhile.
        if phase == "start":
            self._collection_began = monotonic()
        elif self._collection_began:
            generation = min(facts["generation"], len(COLLECTIONS) - 1)
            self._observe(COLLECTIONS[generation], monotonic() - self._collection_began)

    def _observe(self, which: int, seconds: float) -> None:
        observe(self._cells, self.layout.own_histogram(which), OWN_BOUNDS, max(0.0, seconds))
