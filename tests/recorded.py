"""What a memory of figures has recorded, without the times, which differ from run to run."""

from __future__ import annotations

from typing import TypeAlias

from uwsgibridge.figures.layout import TIMES
from uwsgibridge.figures.memory import FiguresMemory
from uwsgibridge.figures.totals import MountTotals, Totals

# The requests by method and outcome; bytes received and sent; how many of each of the times were measured.
Recorded: TypeAlias = tuple[dict[tuple[str, str], int], int, int, dict[str, int]]


def totals_of(memory: FiguresMemory, *, has_ended: bool = False) -> Totals:
    totals = Totals(memory.layout.bounds)
    totals.add_memory(memory.memory, has_ended=has_ended)
    return totals


def recorded(memory: FiguresMemory, label: str = "/") -> Recorded:
    """Give what was recorded of a mount."""
    mount: MountTotals = totals_of(memory).mount(label)
    measured = {name: sum(mount.times[name].counts) for name in TIMES}
    return mount.requests, mount.received_bytes, mount.sent_bytes, measured
