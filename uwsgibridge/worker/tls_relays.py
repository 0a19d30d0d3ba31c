"""Ends the TLS of accepted connections: a host gets one end of a pair of sockets, and a relay passes bytes to and fro.

So hosts, loops and threads know nothing of TLS, and what they do to their end is what Nginx sees: the end of an answer is
TLS's close_notify, and an answer that is cut is a record that can't be decrypted. Nothing else would do: nginx takes a
connection that ends without close_notify, and even one that is reset, for a complete answer (`ngx_ssl_handle_recv`:
whatever left no error in OpenSSL's queue is a clean end).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping
from time import monotonic
from typing import Final, Protocol

from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.connection import CHUNK_BYTES, Connection
from uwsgibridge.loop.interface import Loop, Task
from uwsgibridge.telemetry.once_a_second import Later, OnceASecond
from uwsgibridge.telemetry.reporting import Reporter

# The type of the record that a handshake begins with (RFC 8446, section 5.1).
_HANDSHAKE: Final = 22

# A record of application data (type 23, TLS 1.2) whose 32 bytes no key makes sense of.
_BAD_RECORD: Final = b"\x17\x03\x03\x00\x20" + bytes(32)

# Deadlines of a request are its host's, which closes its end; this one only has each wait end.
_LONG_SECONDS: Final = 3600.0

_NONBLOCK: Final = getattr(socket, "SOCK_NONBLOCK", 0)

# What an error of OpenSSL means to an operator. Names of alerts are from the peer's point of view.
_HINTS: Final = {
    "TLSV1_ALERT_UNKNOWN_CA": "Nginx does not trust the certificate: uwsgi_ssl_trusted_certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "Nginx does not accept the certificate: look at uwsgi_ssl_name",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "Nginx sends no certificate: uwsgi_ssl_certificate and uwsgi_ssl_certificate_key",
    "CERTIFICATE_VERIFY_FAILED": "the certificate that Nginx sends is not signed by --bind-tls-client-ca, or is out of date",
    "UNSUPPORTED_PROTOCOL": "TLS 1.2 is the least: uwsgi_ssl_protocols",
}


class Plain(Protocol):
    """What is needed of the listener."""

    def take_plain(self, connection: Connection, received: int | None = None) -> None:
        """Take over a connection that speaks uwsgi."""

    def wait_for(self, connection: Connection) -> None:
        """Count a connection that has sent no packet yet."""

    def remove_waiting(self, connection: Connection) -> None:
        """Count it no more."""

    def tell_if_idle(self) -> None:
        """Look whether this was the last thing to wait for."""


class TlsRelays:
    """The relays of one worker; all methods belong to the loop's thread.

    Args:
        listener: gets what is inside of TLS.
        loop: the worker's.
        context: of TLS.
        settings: deadlines.
        reporter: logs and counts what fails.
        later: has a function called in so many seconds.
    """

    def __init__(
        self,
        listener: Plain,
        loop: Loop,
        context: ssl.SSLContext,
        settings: Settings,
        reporter: Reporter,
        later: Later,
    ) -> None:
        self.listener = listener
        self.loop = loop
        self.context = context
        self.handshake_seconds = settings.tls_handshake_seconds
        self.write_seconds = settings.write_timeout_seconds
        self.linger_seconds = settings.linger_seconds
        self._reporter = reporter
        self._failed = OnceASecond(self._write, later)
        self._relays: set[_Relay] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no connection is left."""
        return not self._relays

    def take(self, connection: Connection) -> None:
        """Take over a connection that was just accepted."""
        relay = _Relay(self, connection)
        self._relays.add(relay)
        self.listener.wait_for(connection)
        relay.task = self.loop.spawn(relay.run)

    def forget(self, relay: _Relay) -> None:
        """Forget a relay that is over."""
        self._relays.discard(relay)
        self.listener.tell_if_idle()

    def failed(self, reason: str, detail: str, hint: str) -> None:
        """Count and log a handshake that has failed."""
        self._reporter.counters.count_refusal(reason)
        self._failed.note(detail, reason=reason, hint=hint)

    def _write(self, detail: str, count: int, facts: Mapping[str, object]) -> None:
        self._reporter.log.warning(
            "refused: no TLS came about", detail=detail, connections=count, **facts
        )


class _Relay:
    def __init__(self, relays: TlsRelays, outer: Connection) -> None:
        self._relays = relays
        self._loop = relays.loop
        self._outer = outer
        outer.begin_tunnel()  # its bytes are read as they come
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = relays.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = memoryview(b"")
        self._ours: socket.socket | None = None
        self._is_whole = False  # the end of the answer was sent
        self.task: Task | None = None
        self._outbound_task: Task | None = None

    async def run(self) -> None:
        is_open = False
        try:
            try:
                is_open = await self._shake_hands()
            finally:
                self._relays.listener.remove_waiting(self._outer)
            if is_open:
                self._hand_on()
                await self._pass_in()
        finally:
            self._stop()
            self._relays.forget(self)

    async def _shake_hands(self) -> bool:
        deadline = monotonic() + self._relays.handshake_seconds
        is_first = True
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                await self._flush()  # the alert
                self._tell(error)
                return False
            else:
                return await self._flush()
            if not await self._flush():
                return False
            left = deadline - monotonic()
            try:
                data = self._outer.receive_tunnel(CHUNK_BYTES)
            except BlockingIOError:
                if left > 0 and await self._loop.wait_readable(self._outer, left):
                    continue
                self._relays.failed(
                    "tls_handshake_timeout",
                    "the handshake was not over in time",
                    "--tls-handshake-seconds",
                )
                return False
            except OSError:
                return False
            if not data:  # a health check that only connects, or a client that left
                return False
            if is_first and data[0] != _HANDSHAKE:
                self._relays.failed(
                    "not_tls",
                    "what came is no TLS, which --bind-tls-certificate has all of --bind speak",
                    "write suwsgi:// in Nginx's uwsgi_pass, and --tls for uwsgibridge ping",
                )
                return False
            is_first = False
            self._incoming.write(data)

    def _tell(self, error: ssl.SSLError) -> None:
        reason = error.reason or "unknown"
        detail = reason.lower().replace("_", " ")
        if isinstance(error, ssl.SSLCertVerificationError):
            detail = f"{detail}: {error.verify_message}"
        self._relays.failed("tls_handshake", detail, _HINTS.get(reason, ""))

    def _hand_on(self) -> None:
        """Give the listener one end of a pair, with what has come already."""
        inner, self._ours = socket.socketpair()
        inner.setblocking(False)
        self._ours.setblocking(False)
        kind = int(inner.type) | _NONBLOCK
        accepted = socket.SocketType(int(inner.family), kind, 0, inner.detach())
        connection = Connection(accepted, is_unix=True)
        connection.accepted_at = self._outer.accepted_at
        self._outbound_task = self._loop.spawn(self._pass_out)
        if data := self._decrypt():
            self._ours.send(data)  # a record, which fits into the empty buffer
        self._relays.listener.take_plain(connection)

    async def _pass_in(self) -> None:
        """Pass what Nginx sends to the host, until Nginx closes the connection."""
        while True:
            data = self._decrypt()
            if data:
                await self._give(data)
            elif data is not None or not await self._receive():
                return

    def _decrypt(self) -> bytes | None:
        """Give what has come; None where more has to come first, and no bytes at the end."""
        try:
            return self._tls.read(CHUNK_BYTES)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError:  # the end, or what is no TLS
            return b""

    async def _receive(self) -> bool:
        """Receive once; False where nothing comes any more."""
        try:
            data = self._outer.receive_tunnel(CHUNK_BYTES)
        except BlockingIOError:
            await self._loop.wait_readable(self._outer, _LONG_SECONDS)
            return True
        except OSError:
            return False
        self._incoming.write(data)
        return bool(data)

    async def _give(self, data: bytes) -> None:
        assert self._ours is not None
        left = memoryview(data)
        while left:
            try:
                left = left[self._ours.send(left) :]
            except BlockingIOError:
                await self._loop.wait_writable(self._ours, _LONG_SECONDS)
            except OSError:  # the host has closed its end, and wants no more of it
                return

    async def _pass_out(self) -> None:
        """Pass the answer to Nginx, and then its end."""
        assert self._ours is not None
        while True:
            try:
                data = self._ours.recv(CHUNK_BYTES)
            except BlockingIOError:
                await self._loop.wait_readable(self._ours, _LONG_SECONDS)
                continue
            except OSError:  # the host has broken the connection: its end had unread input
                await self._flush()
                self._stop()
                return
            if not data:
                break
            try:
                self._tls.write(data)
            except ssl.SSLError:  # Nginx has sent what is no TLS
                self._stop()
                return
            if not await self._flush():
                self._stop()
                return
        with contextlib.suppress(ssl.SSLError):  # it sends close_notify, and waits for Nginx's
            self._tls.unwrap()
        if not await self._flush():
            self._stop()
            return
        self._is_whole = True
        self._outer.shutdown_write()
        # Nginx closes when it has read that. A close with unread input would lose the end of the answer.
        self._loop.call_later(self._relays.linger_seconds, self._stop)

    async def _flush(self) -> bool:
        """Send what TLS has made; False where Nginx is gone or takes nothing in time."""
        while True:
            if not self._unsent:
                self._unsent = memoryview(self._outgoing.read())
            if not self._unsent:
                return True
            try:
                self._unsent = self._unsent[self._outer.send(self._unsent) :]
            except BlockingIOError:
                if not await self._loop.wait_writable(self._outer, self._relays.write_seconds):
                    return False
            except OSError:
                return False

    def _stop(self) -> None:
        """Close both sides; where the answer is not whole, so that Nginx sees it."""
        ours = self._ours
        if ours is not None and ours.fileno() >= 0:
            if not self._is_whole and not self._outer.closed:
                with contextlib.suppress(OSError):
                    if self._unsent:
                        self._unsent = self._unsent[self._outer.send(self._unsent) :]
                    self._outer.send(_BAD_RECORD)
            self._loop.notify_closing(ours)
            ours.close()
        if not self._outer.closed:
            self._loop.notify_closing(self._outer)
            self._outer.force_close()
