"""Builds the parts of a worker; `worker.worker` starts and drains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from uwsgibridge.application.application import Application
from uwsgibridge.config.mounts import parse_mount_limit, parse_offload, parse_static
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.hangup import HangupWatcher
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.figures.layout import FILES, NO_MOUNT, label_of
from uwsgibridge.figures.memory import Recorders
from uwsgibridge.hosts.context import HostContext
from uwsgibridge.hosts.host import Host
from uwsgibridge.hosts.mounts import Mounts
from uwsgibridge.hosts.offload import Offload
from uwsgibridge.hosts.turn import Turn
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.loop.interface import Loop
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.telemetry.access_sinks import make_access_log
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.once_a_second import Later
from uwsgibridge.telemetry.overload import OverloadLog
from uwsgibridge.telemetry.reporting import Reporter
from uwsgibridge.telemetry.tracking import make_tracking
from uwsgibridge.worker.listener import Listener
from uwsgibridge.worker.loop_watchdog import LoopWatchdog

if TYPE_CHECKING:
    from uwsgibridge.worker.peer_check import PeerCheck


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calls:
    """Functions that the parts of a worker call when something has happened.

    Attributes:
        idle: no connection is at its lingering close any more; called on the loop.
        wake: something has ended that a paused listener, or a drain, may be waiting for; called from any
            thread.
        unfit: the worker is to be replaced; called with the reason, and with whether the worker can serve
            until then; from any thread.
        lost: nothing can be accepted on a socket any more; called with the socket and the reason.
        enough: `max_requests` requests have arrived.
    """

    idle: Callable[[], None]
    wake: Callable[[], None]
    unfit: Callable[[str, bool], None]
    lost: Callable[[ListeningSocket, str], None]
    enough: Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """The parts of one worker; none has started.

    Attributes:
        hosts: one for each application, and before them the one for files, if any.
        listener: accepts for them.
        lingering: ends connections.
        watchdog: logs where an application blocks the loop; None where the loop is not watched.
        finish: called in a thread when all requests and applications have ended, and waited for; None where nothing is to
            be done then.
    """

    hosts: list[Host]
    listener: Listener
    lingering: LingeringClose
    watchdog: LoopWatchdog | None
    finish: Callable[[], object] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Unhosted:
    """What ends a request that no host has."""

    lingering: LingeringClose
    reporter: Reporter
    recorders: Recorders
    release: Callable[[Connection], None]


def assemble(
    applications: Sequence[Application],
    settings: Settings,
    logger: Logger,
    *,
    loop: Loop,
    hangups: HangupWatcher,
    counters: Counters,
    flights: FlightRecorder,
    max_requests: int,
    calls: Calls,
) -> Assembly:
    """Build the parts of a worker.

    Args:
        applications: what is served, one for each prefix.
        settings: everything else.
        logger: where log events go.
        loop: the worker's event loop.
        hangups: tells when a client has gone; the caller closes it.
        counters: the worker's.
        flights: records requests for as long as the worker holds them.
        max_requests: after how many requests `calls.enough` is called; 0 is never.
        calls: functions to call when something has happened.
    """
    tracking = make_tracking(
        settings, applications[0].name, make_access_log(settings, logger), logger
    )
    access_log = tracking.access_log
    buffer_bytes = settings.frontend_buffer_bytes
    lingering = LingeringClose(
        loop, settings.linger_seconds, most=settings.backlog, idle=calls.idle
    )
    reporter = Reporter(None, logger, counters, buffer_bytes, access_log, tracking.id_header)
    recorders = Recorders(counters.memory, NO_MOUNT)
    overload = OverloadLog(logger, counters, partial(_call_later, loop))
    turn = Turn(settings, overload, _Unhosted(lingering, reporter, recorders, flights.end))
    context = HostContext(
        settings=settings,
        loop=loop,
        hangups=hangups,
        lingering=lingering,
        flights=flights,
        overload=overload,
        offload=Offload(map(parse_offload, settings.offload)) if settings.offload else None,
        reporter=reporter,
        recorders=recorders,
        wake=calls.wake,
        unfit=calls.unfit,
        begin=tracking.begin,
    )
    by_prefix: dict[str, Host] = {}
    for it in applications:
        own = Reporter(it.name, logger, counters, buffer_bytes, access_log, tracking.id_header)
        is_shared = sum(other.app is it.app for other in applications) > 1
        own_recorders = Recorders(counters.memory, label_of(it.prefix))
        own_context = replace(context, reporter=own, recorders=own_recorders)
        by_prefix[it.prefix] = _make_host(it, own_context, is_shared=is_shared)
    mounts = Mounts(by_prefix)
    if settings.static:
        mounts = _beside_files(by_prefix, context, lambda it: listener.pass_on(it))  # noqa: PLW0108 - made below
    if settings.mount_limit:
        # Imported here, since most workers have none.
        from uwsgibridge.hosts.mount_limits import LimitedMounts

        mounts = LimitedMounts(
            mounts,
            list(by_prefix.values()),
            dict(map(parse_mount_limit, settings.mount_limit)),
            turn,
            most_waiting=settings.backlog,
            later=loop.call_later,
            changed=lambda: listener.tell_if_idle(),  # noqa: PLW0108 - made below
        )
    listener = Listener(
        loop=loop,
        mounts=mounts,
        settings=settings,
        lingering=lingering,
        reporter=reporter,
        recorder=recorders.shared,
        turn=turn,
        flights=flights,
        max_requests=max_requests,
        enough=calls.enough,
        idle=calls.wake,
        lost=calls.lost,
        peers=_make_peer_check(settings, reporter, partial(_call_later, loop)),
    )
    if settings.speaks_tls:
        # Imported here, since few workers speak TLS.
        from uwsgibridge.connection.tls import context_of
        from uwsgibridge.worker.tls_relays import TlsRelays

        later = partial(_call_later, loop)
        listener.speak_tls(
            TlsRelays(listener, loop, context_of(settings), settings, reporter, later)
        )
    seconds = settings.loop_block_warning_seconds
    is_watched = seconds > 0 and any(it.interface == "asgi" for it in applications)
    watchdog = LoopWatchdog(loop, seconds, logger) if is_watched else None
    return Assembly(mounts.hosts, listener, lingering, watchdog, tracking.finish)


def _make_peer_check(settings: Settings, reporter: Reporter, later: Later) -> PeerCheck | None:
    if not settings.allow_from and not settings.allow_user:
        return None
    # Imported here, since few workers have such a rule.
    from uwsgibridge.connection.peers import AllowedPeers
    from uwsgibridge.worker.peer_check import PeerCheck

    return PeerCheck(AllowedPeers(settings), reporter, later)


def _call_later(loop: Loop, seconds: float, function: Callable[[], object]) -> None:
    """Have a function called on the loop in so many seconds; from any thread."""
    loop.run_threadsafe(lambda: loop.call_later(seconds, function))


def _beside_files(
    hosts: Mapping[str, Host], context: HostContext, pass_on: Callable[[Connection], None]
) -> Mounts:
    # Imported here, since most workers serve no files.
    from uwsgibridge.hosts.static.finding import StaticFiles
    from uwsgibridge.hosts.static.host import StaticHost
    from uwsgibridge.hosts.static.mounts import MountsBesideFiles

    files = StaticFiles(map(parse_static, context.settings.static))
    recorders = Recorders(context.reporter.counters.memory, FILES)
    return MountsBesideFiles(
        hosts, StaticHost(files, replace(context, recorders=recorders), pass_on)
    )


def _make_host(application: Application, context: HostContext, *, is_shared: bool) -> Host:
    # Imported here, since few workers have applications of both kinds: see `worker.kinds`.
    if application.interface == "wsgi":
        from uwsgibridge.hosts.wsgi.host import WsgiHost

        host = WsgiHost(application.app, context, is_shared=is_shared)
        if host.own_limits is not None:
            from uwsgibridge.uwsgi_module.current_request import add_host

            add_host(host.own_limits)
        return host
    from uwsgibridge.hosts.asgi.host import AsgiHost
    from uwsgibridge.hosts.asgi.lifespan import Lifespan

    lifespan = Lifespan(
        application.app,
        loop=context.loop,
        mode=context.settings.lifespan,
        timeout_seconds=context.settings.lifespan_timeout_seconds,
        logger=context.reporter.log,
    )
    return AsgiHost(application.app, context, lifespan)
