"""The figures that a worker reports to its supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from uwsgibridge.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """A worker at one moment.

    Attributes:
        requests: how many have arrived since the worker's start.
        in_flight: how many requests the worker holds now.
        capacity: how many requests it can run at once.
        websockets: how many of the requests in flight are WebSockets.
        queue_seconds: how long the oldest request that is not running has waited.
        mounts: the same for each mount by its label: ``in_flight``, ``busy`` (of these, those that run), ``places`` (as
            capacity) and ``websockets``.
        app_errors, client_gone, slow_requests, refused: as of `uwsgibridge.telemetry.counters.Counters`.
    """

    requests: int = 0
    in_flight: int = 0
    capacity: int = 0
    websockets: int = 0
    queue_seconds: float = 0.0
    mounts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    app_errors: int = 0
    client_gone: int = 0
    slow_requests: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
