"""What a worker gives to each of its hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uwsgibridge.config.settings import Settings
    from uwsgibridge.connection.hangup import HangupWatcher
    from uwsgibridge.connection.lingering import LingeringClose
    from uwsgibridge.hosts.offload import Offload
    from uwsgibridge.link.flights import FlightRecorder
    from uwsgibridge.loop.interface import Loop
    from uwsgibridge.telemetry.reporting import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class HostContext:
    """What is the same in every host of a worker, but for the reporter.

    Attributes:
        settings: limits and deadlines.
        loop: of the worker; ASGI applications run there.
        hangups: tells when a client has gone.
        lingering: ends connections.
        flights: where requests are recorded for as long as they are held.
        offload: leaves files to Nginx; None where no directory is mapped.
        reporter: where failures of the host's application are told.
        wake: called when there is room again for a listener that paused; from any thread.
        unfit: called when the worker is to be replaced; with the reason, and with whether it can serve
            until then; from any thread.
    """

    settings: Settings
    loop: Loop
    hangups: HangupWatcher
    lingering: LingeringClose
    flights: FlightRecorder
    offload: Offload | None
    reporter: Reporter
    wake: Callable[[], None]
    unfit: Callable[[str, bool], None]
