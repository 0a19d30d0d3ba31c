"""Sends the figures to ``--statsd-host``, and never waits for it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Final

import trio

from uwsgibridge.config.address import TcpAddress, UnixAddress, parse_address
from uwsgibridge.config.settings import Settings
from uwsgibridge.figures.family import Family
from uwsgibridge.figures.statsd import UDP_BYTES, UNIX_BYTES, StatsdText, datagrams
from uwsgibridge.status.sources import Sources, families_or_none
from uwsgibridge.telemetry.logs import Logger

# How long a look-up of the host's name may take, and how long its answer counts: a name may move, as in Kubernetes.
_LOOKUP_SECONDS: Final = 5.0
_KEEP_SECONDS: Final = 60.0

# How long a unix socket whose reader does not keep up is waited for.
_SEND_SECONDS: Final = 1.0


class StatsdSender:
    """Sends changes and values every ``--statsd-seconds``.

    Args:
        sources: of the figures.
        settings: of which those of statsd count.
        logger: where a failure is logged, once until it works again.
    """

    def __init__(self, sources: Sources, settings: Settings, logger: Logger) -> None:
        self._sources = sources
        self._names = settings.metrics_names
        self._place = settings.statsd_host
        self._address = parse_address(settings.statsd_host)
        self._seconds = settings.statsd_seconds
        self._log = logger
        tags = settings.statsd_tags.split(",") if settings.statsd_tags else []
        is_plain = settings.statsd_format == "plain" or (
            settings.statsd_format == "auto" and not tags
        )
        self._text = StatsdText(settings.statsd_prefix, None if is_plain else tags)
        self._socket: trio.socket.SocketType | None = None
        self._looked_up_at = 0.0
        self._has_failed = False

    async def run(self) -> None:
        """Send again and again until cancelled, and a last time then, so that no count is lost."""
        self._text.start_from(await self._collect() or ())
        try:
            while True:
                await trio.sleep(self._seconds)
                await self.send()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(_SEND_SECONDS):
                await self.send()
            self.close()

    async def send(self) -> None:
        """Send once."""
        families = await self._collect()
        if families is None:
            return
        lines = self._text.lines(families)
        reason = ""
        try:
            most = UNIX_BYTES if isinstance(self._address, UnixAddress) else UDP_BYTES
            opened = await self._open()
            for datagram in datagrams(lines, most):
                with trio.fail_after(_SEND_SECONDS):
                    reason = await _send(opened, datagram) or reason
                self._text.mark_sent()
        except (OSError, UnicodeError) as error:  # UnicodeError: it is no host name
            reason = getattr(error, "strerror", None) or str(error)
            self.close()
        except trio.TooSlowError:
            reason = f"it took longer than {_SEND_SECONDS:g} s"
            self.close()
        self._tell(reason)

    async def _collect(self) -> Sequence[Family] | None:
        return await families_or_none(self._sources, self._names, self._log)

    def _tell(self, reason: str) -> None:
        if reason and not self._has_failed:
            self._log.warning("statsd can't be reached", address=self._place, reason=reason)
        elif self._has_failed and not reason:
            self._log.info("statsd is reached again", address=self._place)
        self._has_failed = bool(reason)

    async def _open(self) -> trio.socket.SocketType:
        now = trio.current_time()
        if self._socket is not None and now - self._looked_up_at < _KEEP_SECONDS:
            return self._socket
        self.close()
        if isinstance(self._address, UnixAddress):
            opened = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            target: object = self._address.path
        else:
            assert isinstance(self._address, TcpAddress)
            with trio.move_on_after(_LOOKUP_SECONDS) as limit:
                # A name is looked up in a thread, which is left alone where it takes too long.
                found = await trio.socket.getaddrinfo(
                    self._address.host, self._address.port, type=socket.SOCK_DGRAM
                )
            if limit.cancelled_caught:
                raise OSError(f"the name was not found in {_LOOKUP_SECONDS:g} s")
            family, kind, protocol, _, target = found[0]
            opened = trio.socket.socket(family, kind, protocol)
        try:
            await opened.connect(target)
        except BaseException:
            opened.close()
            raise
        self._socket, self._looked_up_at = opened, now
        return opened

    def close(self) -> None:
        """Close the socket; the next sending opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


async def _send(opened: trio.socket.SocketType, datagram: bytes) -> str:
    """Send a datagram; give the reason where the kernel says of the one before that nobody took it."""
    try:
        await opened.send(datagram)
    except ConnectionRefusedError as error:
        if opened.family == socket.AF_UNIX:
            raise
        # The word comes by ICMP, and this datagram was not sent for it.
        with contextlib.suppress(ConnectionRefusedError):
            await opened.send(datagram)
        return error.strerror or str(error)
    return ""
