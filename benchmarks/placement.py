"""Which CPU runs what: the server alone on one, Nginx and wrk on the others, so that they don't take its time."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


@dataclass(frozen=True, slots=True)
class Placement:
    """The CPUs of the server under test, and those of Nginx, wrk and the benchmark itself."""

    server: frozenset[int]
    load: frozenset[int]

    def __str__(self) -> str:
        """Say for the report what runs where."""
        if self.server == self.load:
            return (
                f"Server, Nginx and wrk share CPU {_listed(self.server)}, the only one there is:"
                " they take time from each other, so requests/s and p99 say little."
            )
        return (
            f"The server is pinned to CPU {_listed(self.server)}, Nginx and wrk to"
            f" CPU {_listed(self.load)}."
        )


def choose_placement(usable: Collection[int]) -> Placement:
    """Give the last usable CPU to the server (interrupts tend to go to the first) and the rest to the load."""
    server = frozenset([max(usable)])
    return Placement(server=server, load=frozenset(usable) - server or server)


@contextmanager
def on_cpus(cpus: Collection[int]) -> Iterator[None]:
    """Keep the calling thread, and every process that it starts in the meantime, on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _listed(cpus: Collection[int]) -> str:
    return ", ".join(str(cpu) for cpu in sorted(cpus))
