"""How a thread of a WSGI host takes one request after the other; the accelerator has the same in C."""

from __future__ import annotations

import contextvars
import io
import math
import threading

# Not of `queue`: an application may have gevent replace that one by a queue that wakes no thread.
from _queue import SimpleQueue
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from uwsgibridge.connection.connection import Connection
from uwsgibridge.fast import accelerator
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.exchange_states import Life
from uwsgibridge.hosts.files import FIRST_PIECE_BYTES, WHOLE_BYTES, FileWrapper, OpenFile
from uwsgibridge.hosts.turn import Turn
from uwsgibridge.hosts.wsgi.context import ExchangeContext
from uwsgibridge.hosts.wsgi.exchange import SERVER_SOFTWARE, WsgiExchange
from uwsgibridge.protocol import response_headers, status

if TYPE_CHECKING:
    from uwsgibridge.hosts.wsgi.running import Running
    from uwsgibridge.link.flights import FlightRecorder


class Queue(Protocol):
    """Hands connections from the listener to the threads; None has a thread end."""

    def put(self, item: Connection | None, /) -> None:
        """Append a connection; never wait."""

    def get(self) -> Connection | None:
        """Take the first one; wait for it."""

    def get_nowait(self) -> Connection | None:
        """Take the first one; raise `queue.Empty` where there is none."""


class ServingThread(Protocol):
    """What a thread runs its requests by.

    Attributes:
        exchange: the one that runs now, or that has raised in `serve`; else None.
    """

    exchange: WsgiExchange | None

    def serve(self) -> bool:
        """Run the exchange of the next connection to its end; False for None in the queue.

        The accelerator's returns where it has waited for a connection, too, before it runs anything.
        """


class PythonThread:
    """Serves in Python alone.

    Args:
        queue: where connections come from.
        context: shared by the requests of the host.
        running: the table of this thread, which has the exchange while it runs.
        conclude: called when the exchange has run.
        turn: decides whether a request is run.
    """

    def __init__(
        self,
        queue: Queue,
        context: ExchangeContext,
        running: Running,
        conclude: Callable[[WsgiExchange], None],
        turn: Turn,
    ) -> None:
        self._recorder = context.recorders.make()
        self.exchange: WsgiExchange | None = None
        self._take = queue.get
        self._context = context
        self._running = running
        self._me = threading.current_thread()
        self._conclude = conclude
        self._refuses = turn.refuses

    def serve(self) -> bool:
        connection = self._take()
        if connection is None:
            return False
        if self._refuses(connection):
            return True
        self.exchange = exchange = WsgiExchange(self._context, connection)
        exchange.recorder = self._recorder
        self._running[exchange] = self._me
        # A new and empty context, so that no request sees what an earlier one has set.
        contextvars.Context().run(exchange.run)
        self._conclude(exchange)
        # Without this, the last request would live until the next one comes.
        self.exchange = None
        return True


def make_queue() -> Queue:
    """Make the queue of a host."""
    if accelerator is None:
        return SimpleQueue()
    made: Queue = accelerator.Handover()
    return made


def make_thread(
    queue: Queue,
    context: ExchangeContext,
    running: Running,
    conclude: Callable[[WsgiExchange], None],
    turn: Turn,
    *,
    admission: Admission[Connection],
    flights: FlightRecorder,
) -> ServingThread:
    """Make what the current thread serves by.

    Args:
        queue: from `make_queue`.
        context: shared by the requests of the host.
        running: the table of this thread, which has each exchange while it runs.
        conclude: called with an exchange that has run in Python, or a part of it.
        turn: decides whether a request is run.
        admission: where a request leaves its place, as `ExchangeContext.release` does.
        flights: where it leaves its slot; likewise.
    """
    if accelerator is None:
        return PythonThread(queue, context, running, conclude, turn)
    settings = context.settings
    made: ServingThread = accelerator.WsgiThread(
        queue=queue,
        app=context.app,
        # A copy for each thread: to copy a dict takes its lock in a free-threaded Python.
        base_environ=dict(context.base_environ),
        begin=context.begin,
        server_software=SERVER_SOFTWARE,
        input_type=io.BytesIO,
        file_wrapper=FileWrapper,
        open_file_type=OpenFile,
        reader_type=io.BufferedReader,
        file_type=io.FileIO,
        whole_file_bytes=WHOLE_BYTES,
        first_piece_bytes=FIRST_PIECE_BYTES,
        exchange_type=WsgiExchange,
        context=context,
        errors=context.errors,
        recorder=context.recorders.make(),
        started=Life.RUNNING,
        ended=Life.ENDED,
        over=Life.OVER,
        refuses=turn.refuses,
        looks=turn.looks,
        max_queue_seconds=float(turn.max_queue_seconds),
        running=running,
        thread=threading.current_thread(),
        conclude=conclude,
        admission=admission,
        in_flight=admission.in_flight,
        free_slots=flights.free_slots,
        id_header=context.reporter.id_header_name,
        statuses=status.known_statuses,
        kinds=response_headers.known_text_kinds,
        stream_kinds=response_headers.known_text_stream_kinds,
        frontend_buffer_bytes=settings.frontend_buffer_bytes,
        has_offload=context.offload is not None,
        logs_access=context.logs_access,
        log_sent=context.reporter.sent_writer,
        # A thread whose request may be given up has to look at it, see `WsgiAnswer._wait`.
        write_milliseconds=0
        if settings.request_timeout_seconds or settings.uwsgi_module
        else math.ceil(settings.write_timeout_seconds * 1000),
    )
    return made
