"""The tunnel of one WebSocket: frames in both directions, with backpressure.

Frames are read as they arrive, into a bounded queue, also while the application does not call `receive`: pings have to
be answered, and a close has to be noticed. While the queue is full, nothing is read, and the client waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import trio

from uwsgibridge.connection.connection import CHUNK_BYTES, Connection
from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.hosts.asgi.exchange import AsgiContext, AsgiExchange
from uwsgibridge.hosts.asgi.inbox import Inbox
from uwsgibridge.hosts.asgi.signs_of_life import FOLLOWING as SIGN_AFTER
from uwsgibridge.hosts.asgi.signs_of_life import Sign
from uwsgibridge.hosts.asgi.signs_of_life import Step as SignStep
from uwsgibridge.hosts.asgi.websocket_states import Reading, State
from uwsgibridge.loop.interface import Event, Watch
from uwsgibridge.protocol.websocket import Closed, PongReceived, WebSocket
from uwsgibridge.protocol.websocket import Event as WebSocketEvent

# How many bytes may wait to be sent, such as answers to pings; with more, nothing is read.
_MAX_OUTBOX_BYTES: Final = 65_536

# Module names for members of enums: to look a member up in its class costs more.
_OPEN: Final = State.OPEN
_FLOWING: Final = Reading.FLOWING
_SUSPENDED: Final = Reading.SUSPENDED
_OVER: Final = Reading.OVER
_HEARD: Final = Sign.HEARD


class WebSocketTunnel(AsgiExchange):
    """Reads from the client and writes to it; `WebSocketExchange` decides what to write, and when to end.

    Raises:
        HandshakeRefused: on construction, where the request is no valid handshake.
    """

    _state = State.CONNECTING
    _reading = Reading.FLOWING
    _watch: Watch | None = None
    _flushing: Event | None = None

    def __init__(self, context: AsgiContext, connection: Connection) -> None:
        super().__init__(context, connection)
        self._websocket = WebSocket(
            self.request,
            max_message_bytes=context.settings.websocket_max_message_bytes,
            deflate=context.settings.websocket_deflate,
        )
        # A frontend that is known to carry WebSockets counts as a sign of life.
        self._sign = Sign.HEARD if self._websocket.is_frontend_known else Sign.UNHEARD
        self._inbox = Inbox(context.loop)
        self._outbox = bytearray()

    def _finish_by_client(self, closed: Closed) -> None:
        """End the WebSocket, because the client has closed it or left; nothing more is read."""
        raise NotImplementedError

    def _read(self) -> None:
        """Read what has arrived in the tunnel; called by the event loop."""
        try:
            data = self.connection.receive_tunnel(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._sign = _HEARD
        self._handle_events(self._websocket.receive(data))

    def _handle_events(self, events: Iterator[tuple[WebSocketEvent | None, bytes]]) -> None:
        """Handle what the client has sent, for as long as the queue has room.

        A few bytes may be the compressed form of many large messages. So each message is inflated only when there
        is room for it.
        """
        for event, answer in events:
            self._outbox += answer
            if isinstance(event, Closed):
                self._finish_by_client(event)
                return
            if isinstance(event, PongReceived):
                self._sign = _HEARD
            elif event is not None and self._state is _OPEN:
                self._inbox.put(event)
            if self._state is _OPEN and self._is_full:
                break
        self._flush_soon()
        if self._state is _OPEN and self._is_full and self._reading is _FLOWING:
            assert self._watch is not None
            self._reading = _SUSPENDED
            self._watch.suspend()

    @property
    def _is_full(self) -> bool:
        return (
            self._inbox.is_full(self._websocket.unfinished_bytes)
            or len(self._outbox) >= _MAX_OUTBOX_BYTES
        )

    def _read_on(self) -> None:
        """Read again, if the queue has room."""
        if self._reading is not _SUSPENDED:
            return
        if not self._is_full and not self._ended:
            self._handle_events(self._websocket.receive_more())
        if self._reading is _SUSPENDED and not self._is_full and not self._ended:
            assert self._watch is not None
            self._reading = _FLOWING
            self._watch.resume()

    def _flush_soon(self) -> None:
        """Send what fits now; the rest is sent with the next data, or by a task of its own."""
        if self._outbox and self._flushing is None and not self._ended:
            try:
                sent = self._send_some(bytes(self._outbox))
            except PeerGone:
                self._outbox.clear()
                return
            del self._outbox[:sent]
            if self._outbox:
                self.connection.closing_task = self._context.loop.spawn(self._flush_quietly)

    async def _flush_quietly(self) -> None:
        try:
            await self._flush()
        except PeerGone:
            return  # it was recorded where it was noticed

    async def _wait_for_room(self) -> None:
        """Wait while much of what was sent before is not taken; who gives up here has added nothing to it."""
        while len(self._outbox) >= _MAX_OUTBOX_BYTES and not self._ended:
            await self._flush()

    async def _flush(self) -> None:
        while self._flushing is not None:
            await self._flushing.wait()
        self._flushing = self._context.loop.event()
        try:
            # Unsent bytes stay in the outbox, so that an application that is cancelled here leaves no broken frame.
            while self._outbox and not self._ended:
                piece = bytes(self._outbox[:CHUNK_BYTES])
                sent = self._send_some(piece)
                del self._outbox[:sent]
                if sent != len(piece) and not await self._wait_writable():
                    raise PeerGone("the client does not take the answer")
        except (asyncio.CancelledError, trio.Cancelled):
            # The application may send nothing for long, and the client has half a message.
            self.connection.closing_task = self._context.loop.spawn(self._flush_quietly)
            raise
        finally:
            self._flushing.set()
            self._flushing = None
        self._read_on()
        if self._reading is _OVER and not self._outbox:
            self._end_tunnel()

    async def _wait_writable(self) -> bool:
        context = self._context
        if await context.loop.wait_writable(
            self.connection, context.settings.write_timeout_seconds
        ):
            # The kernel takes some bytes also where nobody reads. That it takes more after a wait shows a reader.
            self._sign = SIGN_AFTER[SignStep.TAKEN][self._sign]
            return True
        context.reporter.reader_stalled(self.request)
        self._mark_client_gone()
        return False

    def _end_tunnel(self) -> None:
        if not self._ended:
            self._end(complete=True)
