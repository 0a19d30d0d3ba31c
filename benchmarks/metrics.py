"""The figures that a workload gives of a server: their headings, units and forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure.

    `form` is the format of a value. `has_ratio` says whether it is held against other servers.
    """

    heading: str
    form: str
    has_ratio: bool = True


CPU: Final = Metric("CPU us/request", ".1f")
RATE: Final = Metric("requests/s", ",.0f")
P50: Final = Metric("p50 ms", ".1f", has_ratio=False)
P99: Final = Metric("p99 ms", ".1f")

CPU_OF_MESSAGE: Final = Metric("CPU us/message", ".1f")
MESSAGE_RATE: Final = Metric("messages/s", ",.0f")

LIGHT_RATE: Final = Metric("light/s", ",.0f")
LIGHT_P50: Final = Metric("light p50 ms", ".1f", has_ratio=False)
LIGHT_P99: Final = Metric("light p99 ms", ".1f")
HEAVY_RATE: Final = Metric("heavy/s", ",.1f")
PING_P50: Final = Metric("ping p50 ms", ".2f", has_ratio=False)
PING_LONGEST: Final = Metric("longest ping ms", ".1f")

PSS_OF_1: Final = Metric("PSS MiB, 1 worker", ".1f")
PSS_OF_2: Final = Metric("2 workers", ".1f")
PSS_OF_4: Final = Metric("4 workers", ".1f")

START_CPU: Final = Metric("CPU ms", ",.0f")
START_TIME: Final = Metric("ms to the first answer", ",.0f")

LOW_SHARE: Final = Metric("busiest at 1 connection %", ".0f", has_ratio=False)
HIGH_SHARE: Final = Metric("busiest at 64 %", ".0f", has_ratio=False)
USELESS_LOW: Final = Metric("useless wake-ups/request at 1", ".2f", has_ratio=False)
USELESS_HIGH: Final = Metric("at 64", ".2f", has_ratio=False)
