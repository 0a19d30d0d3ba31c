"""What a worker gives to each of its hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.telemetry.request_ids import Begin, current_request

if TYPE_CHECKING:
    from uwsgibridge.config.settings import Settings
    from uwsgibridge.connection.hangup import HangupWatcher
    from uwsgibridge.connection.lingering import LingeringClose
    from uwsgibridge.figures.memory import Recorders
    from uwsgibridge.hosts.offload import Offload
    from uwsgibridge.link.flights import FlightRecorder
    from uwsgibridge.loop.interface import Loop
    from uwsgibridge.telemetry.overload import OverloadLog
    from uwsgibridge.telemetry.reporting import Reporter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostContext:
    """What a host gets from its worker; all but the reporter and the recorders is the same for each host.

    Attributes:
        settings: limits and deadlines.
        loop: the worker's event loop, on which ASGI applications run.
        hangups: tells when a client has gone.
        lingering: ends connections.
        flights: records requests for as long as the worker holds them.
        offload: has Nginx send files; None where no directory is mapped.
        overload: counts and logs requests that are refused because of an overload.
        reporter: logs failures of the host's application.
        recorders: make what records requests of the host.
        wake: called when there is room again for a paused listener; from any thread.
        unfit: called when the worker is to be replaced, with the reason, and with whether the worker can
            serve until then; from any thread.
        begin: called with each request in its own context, before the application is; must not raise.
    """

    settings: Settings
    loop: Loop
    hangups: HangupWatcher
    lingering: LingeringClose
    flights: FlightRecorder
    offload: Offload | None
    overload: OverloadLog
    reporter: Reporter
    recorders: Recorders
    wake: Callable[[], None]
    unfit: Callable[[str, bool], None]
    begin: Begin = current_request.set
