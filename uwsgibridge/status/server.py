"""The server of the status application: reads a packet, has a handler answer, and closes. It serves nothing else."""

from __future__ import annotations

import contextlib
from typing import Final

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.protocol import answers
from uwsgibridge.protocol.errors import ProtocolError
from uwsgibridge.protocol.packet import MODIFIER_PING, PONG, Packet, PacketLimits, parse_packet
from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.response import Response
from uwsgibridge.protocol.status import status_line
from uwsgibridge.status.routes import Answer, Routes, text_answer
from uwsgibridge.telemetry.logs import Logger

# How long a page may take. What it waits for has bounds of its own, which are shorter.
_ANSWER_SECONDS: Final = 5.0

_RECEIVE_BYTES: Final = 65_536

# So much of a body is read and thrown away: pages have no use for one, and a close with unread bytes would break the
# answer off (tcp_close of Linux sends RST).
_MAX_UNREAD_BYTES: Final = 1_048_576

# How long the rest of what was refused is read.
_LINGER_SECONDS: Final = 1.0


class StatusServer:
    """Answers at a listening socket; each connection has one request, as Nginx's uwsgi module has it.

    Args:
        routes: the pages.
        settings: ``status_connections`` and the limits of a packet and of a write count.
        logger: where a page that fails is logged.
    """

    def __init__(self, routes: Routes, settings: Settings, logger: Logger) -> None:
        self._routes = routes
        self._most = settings.status_connections
        self._limits = PacketLimits(settings.max_vars_bytes, settings.max_vars)
        self._packet_seconds = settings.packet_timeout_seconds
        self._write_seconds = settings.write_timeout_seconds
        self._log = logger
        self._connections = 0

    async def serve(self, listening: ListeningSocket) -> None:
        """Answer at a socket until cancelled; the socket stays open."""
        # A copy of the descriptor, since a trio socket closes its own at its end, and an upgrade hands the first one on.
        with trio.socket.from_stdlib_socket(listening.socket.dup()) as socket:
            await trio.serve_listeners(self._serve_connection, [trio.SocketListener(socket)])

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        # TooSlowError: the peer stalls. BrokenResourceError: the peer is gone. Both only end the connection.
        with contextlib.suppress(trio.TooSlowError, trio.BrokenResourceError):
            self._connections += 1
            try:
                # Those over the limit are told so, as long as they are not as many again.
                if self._connections <= 2 * self._most:
                    await self._converse(stream)
            finally:
                self._connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        received = bytearray()
        try:
            with trio.fail_after(self._packet_seconds):
                packet = await self._receive_packet(stream, received)
                if packet is None:
                    return
                if packet.modifier1 == MODIFIER_PING:
                    await stream.send_all(PONG)
                    return
                request = Request(packet)
                await _discard(stream, request.content_length + packet.size_bytes - len(received))
        except ProtocolError as error:
            refusal = answers.refused(error, error.method)
            if refusal.data:
                await self._send(stream, refusal.data)
                with trio.move_on_after(_LINGER_SECONDS):
                    await _discard(stream, _MAX_UNREAD_BYTES)
            return
        await self._send(stream, _encode(await self._answer(request), request.method))

    async def _receive_packet(
        self, stream: trio.SocketStream, received: bytearray
    ) -> Packet | None:
        """Receive a packet; None where the peer leaves before its end."""
        while True:
            piece = await stream.receive_some(_RECEIVE_BYTES)
            if not piece:
                return None
            received += piece
            # A copy, since a bytearray that somebody has a view of can't grow.
            with memoryview(bytes(received)) as view:
                packet = parse_packet(view, self._limits)
            if packet is not None:
                return packet

    async def _answer(self, request: Request) -> Answer:
        if self._connections > self._most:
            return text_answer(
                503,
                f"{self._most} connections are open, which is the most (--status-connections).",
                {"Retry-After": "1"},
            )
        try:
            with trio.move_on_after(_ANSWER_SECONDS):
                return await self._routes.answer(request)
        except Exception:  # noqa: BLE001 - a fault in a page must not end the service
            self._log.exception("status page failed", path=request.path)
            return text_answer(500, "The page failed. The server's log says why.")
        return text_answer(503, f"The page took longer than {_ANSWER_SECONDS:g} seconds.")

    async def _send(self, stream: trio.SocketStream, data: bytes) -> None:
        with trio.fail_after(self._write_seconds):
            await stream.send_all(data)
            await stream.send_eof()


async def _discard(stream: trio.SocketStream, size_bytes: int) -> None:
    left = min(size_bytes, _MAX_UNREAD_BYTES)
    while left > 0:
        piece = await stream.receive_some(min(left, _RECEIVE_BYTES))
        if not piece:
            return
        left -= len(piece)


def _encode(answer: Answer, method: str) -> bytes:
    response = Response(method)
    headers = {
        "Content-Type": answer.content_type,
        "Cache-Control": "no-store",
        **answer.headers,
    }
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    response.start(answer.status, status_line(answer.status), encoded)
    return b"".join(response.send(answer.body, last=True))
