"""Accepts connections, reads their packets, and hands each request to its host.

One wake-up accepts a batch of connections. The packet is usually there when accept() returns. So a task is started only
for a connection whose packet is still on its way.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from uwsgibridge.config.address import DescriptorAddress
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection import refusing
from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.fast import Intake
from uwsgibridge.figures.recorder import Recorder
from uwsgibridge.hosts.exchange import record_own_answer
from uwsgibridge.hosts.host import Route, Select
from uwsgibridge.hosts.mounts import Mounts
from uwsgibridge.hosts.turn import Turn
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.loop.interface import Loop, nothing
from uwsgibridge.protocol.answers import OwnAnswer
from uwsgibridge.protocol.errors import ProtocolError
from uwsgibridge.protocol.packet import MODIFIER_PING, PONG, PacketLimits
from uwsgibridge.protocol.request import Request
from uwsgibridge.system.interpreter import runs_without_gil
from uwsgibridge.telemetry.once_a_second import LOG_SECONDS
from uwsgibridge.telemetry.reporting import Reporter
from uwsgibridge.worker.acceptor import Acceptor
from uwsgibridge.worker.arrivals import Arrivals
from uwsgibridge.worker.held_back import HeldBack
from uwsgibridge.worker.intakes import Intakes
from uwsgibridge.worker.lending import Lending, lend
from uwsgibridge.worker.sharing import Sharing, share

if TYPE_CHECKING:
    from uwsgibridge.hosts.wsgi.host import WsgiHost
    from uwsgibridge.worker.peer_check import Admits, PeerCheck
    from uwsgibridge.worker.probing import Probes
    from uwsgibridge.worker.tls_relays import TlsRelays

# Without free descriptors or memory, accepting is tried again after this time, or when a request ends.
_RETRY_SECONDS: Final = 0.1

# For these errors, the log gives the hint to raise the limit on open files.
_SHORT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


class Listener:
    """Accepts on all listening sockets, as long as the hosts have room.

    Args:
        loop: the event loop; all methods belong to its thread.
        mounts: the hosts.
        settings: limits and deadlines.
        lingering: ends connections that were refused.
        reporter: logs and counts what was refused.
        recorder: records what no host gets.
        turn: decides whether requests are run that have waited before a host had them.
        flights: records requests for as long as the worker holds them.
        max_requests: after how many requests `enough` is called; 0 is never.
        enough: called once, when `max_requests` requests have arrived.
        idle: called when, after `close`, every connection is with a host or over.
        lost: called with a socket and the reason, where nothing can be accepted on it any more.
        peers: looks who connects; None where everybody may.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        mounts: Mounts,
        settings: Settings,
        lingering: LingeringClose,
        reporter: Reporter,
        recorder: Recorder,
        turn: Turn,
        flights: FlightRecorder,
        max_requests: int,
        enough: Callable[[], None],
        idle: Callable[[], None],
        lost: Callable[[ListeningSocket, str], None],
        peers: PeerCheck | None = None,
    ) -> None:
        self._loop = loop
        self._idle = idle
        self._lost = lost
        self._peers = peers
        self._mounts = mounts
        self._admissions = [host.admission for host in mounts.hosts]
        self._lingering = lingering
        self._reporter = reporter
        self._recorder = recorder
        self._counters = reporter.counters
        self._limits = PacketLimits(settings.max_vars_bytes, settings.max_vars)
        self._max_body_bytes = settings.max_body_bytes
        self._packet_timeout_seconds = settings.packet_timeout_seconds
        self._max_waiting = settings.backlog
        self._is_alone = settings.workers < 2
        self._flights = flights
        self._max_requests = max_requests
        self._enough = enough
        self._intakes = Intakes(
            mounts,
            self._limits,
            settings.max_body_bytes,
            max_requests,
            reporter.counters,
            looks=turn.looks,
            peers=peers,
        )
        self._acceptors: list[Acceptor] = []
        self._paused = False
        self._is_short = False  # of descriptors or memory; the log says so already
        # Each connection that ends makes room for one, after which it is short again: that is logged once a second.
        self._tells_short_at = 0.0
        self._closed = False
        self._refuses = False  # `refuse_new` was called; `close` comes next
        self._leaving: set[int] = set()  # descriptors
        # Connections that have sent no whole packet yet, or that were refused and are being closed.
        self._waiting: set[Connection] = set()
        self._held_back = HeldBack(turn.drops)
        self._arrivals = Arrivals(turn)
        self._lending: Lending | Sharing | None = None
        self._relays: TlsRelays | None = None
        self._probes: Probes | None = None
        self._is_diverted = False
        # What gets a request; a probe puts itself there for as long as it runs.
        self._route: Route = self.hand_over

    def speak_tls(self, relays: TlsRelays) -> None:
        """Have the connections of all sockets speak TLS; before `listen`."""
        self._relays = relays

    def listen(self, listening: ListeningSocket) -> None:
        """Begin to accept on a socket."""
        self._acceptors.append(Acceptor(self, self._loop, listening, self._flights))

    def lend(self) -> None:
        """Have the threads of the only host accept by themselves from now on, where there is one host, and one socket."""
        host = self._mounts.only
        if host is None or host.runs_on_loop or len(self._acceptors) != 1 or self._relays:
            return
        acceptor, intakes, loop = self._acceptors[0], self._intakes, self._loop
        if runs_without_gil():
            wsgi = cast("WsgiHost", host)
            self._lending = share(self, wsgi, acceptor, intakes, loop, self._flights)
        else:
            self._lending = lend(self, host, acceptor.listening, intakes, loop, self._flights)

    def lendable(self) -> Acceptor | None:
        """Give the acceptor whose socket a thread may accept on now; None where the loop has to decide."""
        if self._closed or self._refuses or self._paused or self._held_back or not self._acceptors:
            return None
        if self._is_diverted:
            return None
        first = self._acceptors[0]
        return None if first.is_replaced or self.is_leaving(first.listening) else first

    def take_handed(self, connection: Connection, received: int | None) -> None:
        """Take over a connection that a thread has accepted, and take the socket back where there is no room for more."""
        self.take(connection, received)
        self.room()

    def _take_back(self) -> None:
        if self._lending is not None:
            self._lending.take_back()

    async def refuse_new(self, *, is_last: bool = False) -> None:
        """Let no new connection into the backlogs that nobody shares, before `close` empties them.

        Args:
            is_last: as for `close`.
        """
        self._refuses = True
        if self._lending is not None:
            self._lending.end()
        self._forget_replaced()
        ending = [
            it.listening
            for it in self._acceptors
            if is_last or not it.listening.is_inherited or self.is_leaving(it.listening)
        ]
        # Requests are served while this waits.
        for step in (refusing.admit_at_once, refusing.refuse_new):
            seconds = max((step(it) for it in ending), default=0.0)
            if seconds:
                await trio.sleep(seconds)

    def close(self, *, is_last: bool = False) -> None:
        """Accept the connections in the backlog, and none after them; accepted connections go on.

        Sockets that no other process has are gone then, so that Nginx is refused at once and tries another
        server. Inherited sockets stay with the processes that share them.

        Args:
            is_last: whether everybody who shares an inherited socket stops, too. Then this worker
                accepts its backlog, and the socket listens no more, whoever has a descriptor of it.
        """
        self._closed = True
        self._forget_replaced()
        for acceptor in self._acceptors:
            is_leaving = self.is_leaving(acceptor.listening)
            acceptor.close(self._max_waiting, is_last=is_last or is_leaving)

    def accept_no_more(self) -> None:
        """Leave what is in the backlog, and what comes, to the processes that share the sockets."""
        self._pause()
        self._closed = True

    def mark_leaving(self, descriptors: Collection[int]) -> None:
        """Mark some of the inherited sockets: all workers are about to leave them."""
        self._leaving |= set(descriptors)

    def is_leaving(self, listening: ListeningSocket) -> bool:
        """Whether `mark_leaving` has named a socket."""
        address = listening.address
        return isinstance(address, DescriptorAddress) and address.fd in self._leaving

    def leave_sockets(self) -> None:
        """Leave the sockets that `mark_leaving` has named: refuse new connections, then accept those in the backlog."""
        self._leave_in_steps((refusing.admit_at_once, refusing.refuse_new))

    def _leave_in_steps(self, steps: Sequence[Callable[[ListeningSocket], float]]) -> None:
        if self._closed:  # `close` has left them already
            return
        self._take_back()
        self._forget_replaced()
        left = [it for it in self._acceptors if self.is_leaving(it.listening)]
        if steps:
            seconds = max((steps[0](it.listening) for it in left), default=0.0)
            self._loop.call_later(seconds, partial(self._leave_in_steps, steps[1:]))
            return
        for acceptor in left:
            self._acceptors.remove(acceptor)
            acceptor.close(self._max_waiting, is_last=True)

    def close_waiting(self) -> None:
        """Close the connections that have sent no whole packet yet."""
        for connection in list(self._waiting):
            self._loop.notify_closing(connection)
            connection.force_close()
        self._waiting.clear()

    @property
    def connections(self) -> list[Connection]:
        """List the accepted connections that no host holds."""
        handed = self._lending.connections if self._lending else []
        held = [*self._held_back.connections, *self._mounts.connections]
        return [*self._waiting, *held, *handed]

    @property
    def is_idle(self) -> bool:
        """Whether every accepted connection is with a host, or over."""
        is_lent = self._lending is not None and not self._lending.is_idle
        is_held = self._held_back or self._mounts.connections
        is_relayed = self._relays is not None and not self._relays.is_idle
        return not (self._waiting or is_held or is_lent or is_relayed)

    def go_on(self) -> None:
        """Accept what waits, after a host has made room; from the loop's thread.

        Where the hosts are full again afterwards, no socket is watched meanwhile: to watch one costs several turns of the
        loop.
        """
        self._held_back.resume()
        self._mounts.resume()
        if self._paused and not self._closed:
            # Each time, another one is the first. Else a socket on which connections always wait would take all of the room.
            self._acceptors = [*self._acceptors[1:], *self._acceptors[:1]]
            for acceptor in list(self._acceptors):
                acceptor.accept_again()
        self.resume()

    def resume(self) -> None:
        """Accept again after a pause, where there is room again; from the loop's thread."""
        self._held_back.resume()
        self._mounts.resume()
        if self._paused and not self._ask_to_be_woken():
            self._paused = False
            if not self._closed:
                for acceptor in self._acceptors:
                    acceptor.resume()

    def room(self) -> int:
        """Count how many more connections may be accepted now; pause accepting where there are none."""
        room = 0 if self._held_back else self._max_waiting - len(self._waiting)
        for admission in self._admissions:
            room = min(room, admission.limit - len(admission.in_flight))
        if room <= 0:
            self._pause()
            self.resume()  # a thread may have made room since, and will not tell it twice
        return room

    def pause_for_resources(self, error: OSError) -> None:
        """Pause accepting for a moment, because the process or the machine lacks a resource."""
        now = monotonic()
        if not self._is_short and now >= self._tells_short_at:
            self._tells_short_at = now + LOG_SECONDS
            self._reporter.log.error(
                "can't accept connections: waiting for some to end",
                reason=os.strerror(error.errno or 0),
                **(
                    {"hint": "raise the limit on open files (ulimit -n)"}
                    if error.errno in _SHORT_OF_DESCRIPTORS
                    else {}
                ),
            )
        self._is_short = True
        self._pause()
        self._loop.call_later(_RETRY_SECONDS, self.resume)

    def check_sockets(self) -> None:
        """Look whether all sockets still listen: the loop may report nothing of a socket that was closed."""
        if not (self._closed or self._refuses):
            for acceptor in list(self._acceptors):
                if not self.is_leaving(acceptor.listening):
                    acceptor.check()

    def remove_acceptor(self, acceptor: Acceptor, error: OSError) -> None:
        """Stop using a socket that can't be accepted on any more, and report it as lost."""
        self._take_back()
        if acceptor in self._acceptors:
            self._acceptors.remove(acceptor)
            where = acceptor.forget_socket()
            self._lost(
                acceptor.listening,
                f"nothing can be accepted at {where} any more: {os.strerror(error.errno or 0)}",
            )

    def _forget_replaced(self) -> None:
        """Forget the sockets whose descriptors the application has closed or replaced since the last look."""
        for acceptor in list(self._acceptors):
            if acceptor.is_replaced:
                self._acceptors.remove(acceptor)
                acceptor.forget_socket()

    @property
    def is_alone(self) -> bool:
        """Whether no other worker accepts on the sockets, but for moments such as a reload."""
        return self._is_alone

    @property
    def has_threads_alone(self) -> bool:
        """Whether no application runs on the loop."""
        return not any(host.runs_on_loop for host in self._mounts.hosts)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def make_intake(self, listening: ListeningSocket) -> Intake | None:
        """Make what accepts on a socket and hands plain requests to their hosts; None where Python does that."""
        if self._relays is not None:
            return None
        return self._intakes.make(listening, self._flights, self.take)

    def peer_check(self, listening: ListeningSocket) -> Admits | None:
        """Make the check of who connects to a socket; None where everybody may."""
        return None if self._peers is None else self._peers.of(listening)

    def note_accepted(self) -> None:
        """Note that connections can be accepted, after `pause_for_resources`."""
        self._is_short = False

    def take(self, connection: Connection, received: int | None = None) -> None:
        """Take over a connection that was just accepted; the arguments are those of `take_plain`."""
        if self._relays is not None:
            self._relays.take(connection)
        else:
            self.take_plain(connection, received)

    def take_plain(self, connection: Connection, received: int | None = None) -> None:
        """Take over a connection that speaks uwsgi.

        Args:
            connection: the connection, from which nothing is read but `received`.
            received: as for `Connection.receive_packet`.
        """
        if not self._try_to_read(connection, received):
            self.wait_for(connection)
            connection.task = self._loop.spawn(self._wait_for_packet, connection)

    def _try_to_read(self, connection: Connection, received: int | None = None) -> bool:
        """Read what has arrived; True where the connection needs no wait for more."""
        flights = self._flights
        try:
            modifier1 = connection.receive_packet(
                flights.scratch, self._limits, self._max_body_bytes, received
            )
        except BlockingIOError:
            flights.drop_packet()
            return False
        except ProtocolError as error:
            self._refuse(connection, error)
            return True
        except OSError:
            # PeerGone: a health check that only connects, or a client that left at once.
            flights.drop_packet()
            connection.force_close()
            return True
        if modifier1 is None:
            flights.drop_packet()  # the packet may never be whole
            return False
        if modifier1 == MODIFIER_PING:
            self._answer_ping(connection)
            return True
        flights.keep_packet(connection)
        arrived = self._counters.own.count_request()
        if self._max_requests and arrived >= self._max_requests:
            self._enough()
            self._enough = nothing  # once
        if self._arrivals.drops(connection, is_due=received is not None):
            return True
        self._route(connection, self._mounts.select)
        return True

    def pass_on(self, connection: Connection) -> None:
        """Hand a request to its application, which another host had and has not answered."""
        self.hand_over(connection, self._mounts.select_application)

    def hand_over(self, connection: Connection, select: Select) -> None:
        """Hand a request to the host that `select` finds for it; answer it where there is none."""
        host = select(connection.request)
        if host is None:
            answer = self._reporter.not_mounted(connection.request)
            self.answer(connection, answer, connection.request)
            self._flights.end(connection)
        elif not self._held_back.submit(host, connection):
            self._pause()
            self.resume()

    def probe(self, token: str, *, ends: bool = False) -> list[dict[str, Any]]:
        """Answer requests that have a token in the place of the applications, for a while; see `worker.probing`.

        Args:
            token: of the probe.
            ends: whether that is over.

        Returns:
            What has arrived with the token so far; nothing at its end.

        Raises:
            ProbeRefused: the message says why that can't be.
        """
        from uwsgibridge.worker.probing import ProbeRefused, Probes  # imported here: few have any

        if isinstance(self._lending, Sharing):
            raise ProbeRefused(
                "its threads accept by themselves, on a Python without the GIL, unless there are several workers"
            )
        if self._probes is None:
            self._probes = Probes(self, self._loop, self._lingering, self._recorder)
        if ends:
            self._probes.end(token)
            return []
        return self._probes.begin(token)

    def divert(self, route: Route | None) -> None:
        """Have all requests go another way, and none by the accelerator; None has them go to their hosts again."""
        self._is_diverted = route is not None
        self._route = route or self.hand_over
        if self._is_diverted:
            self._take_back()
        # A closed one has no socket, and what it took at the end went without the accelerator.
        for acceptor in () if self._closed else self._acceptors:
            acceptor.divert(self._is_diverted)

    async def _wait_for_packet(self, connection: Connection) -> None:
        deadline = monotonic() + self._packet_timeout_seconds
        try:
            while True:
                left = deadline - monotonic()
                if left <= 0 or not await self._loop.wait_readable(connection, left):
                    self._reporter.packet_stalled()
                    connection.force_close()
                    return
                if self._try_to_read(connection):
                    return
        finally:
            self.remove_waiting(connection)

    def _refuse(self, connection: Connection, error: ProtocolError) -> None:
        request = error.request if isinstance(error.request, Request) else None
        answer = self._reporter.refused(request, error)
        self._counters.own.count_unread()
        self._flights.drop_packet()
        if answer.status:
            self.answer(connection, answer, request)
        else:
            connection.force_close()

    def answer(self, connection: Connection, answer: OwnAnswer, request: Request | None) -> None:
        """Send a short answer, and close the connection when the peer has sent everything."""
        if request is not None:
            answer = self._reporter.with_id(request, answer)
        is_sent = True
        try:
            connection.send(answer.data)
        except OSError:
            connection.force_close()
            is_sent = False
        else:
            self.wait_for(connection)
            self._lingering.discard(connection, self.remove_waiting)
        record_own_answer(self._recorder, connection, answer.status if is_sent else 0)
        if request is not None:
            self._reporter.answered(
                request, answer, accepted_at=connection.accepted_at, is_sent=is_sent
            )

    def end_flight(self, connection: Connection) -> None:
        """Record the request no more as one that the worker holds."""
        self._flights.end(connection)

    def wait_for(self, connection: Connection) -> None:
        """Count a connection that has sent no packet yet, or that was refused and is being closed."""
        self._waiting.add(connection)
        self._flights.count_connections(len(self._waiting))

    def remove_waiting(self, connection: Connection) -> None:
        """Count it no more."""
        self._waiting.discard(connection)
        self._flights.count_connections(len(self._waiting))
        self.resume()
        self.tell_if_idle()

    def tell_if_idle(self) -> None:
        """Tell a drain where nothing is left of it here."""
        if self._closed and self.is_idle:
            self._idle()

    def _answer_ping(self, connection: Connection) -> None:
        try:
            connection.send(PONG)
            connection.close()
        except OSError:
            connection.force_close()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._take_back()
            for acceptor in self._acceptors:
                acceptor.suspend()

    def _ask_to_be_woken(self) -> bool:
        """Have each full host wake the listener; False where neither a host nor the listener itself is full."""
        while True:
            full = [
                admission.wake_at(admission.resume_at)
                for admission in self._admissions
                if len(admission.in_flight) >= admission.limit
            ]
            if any(full) or len(self._waiting) >= self._max_waiting:
                return True
            if not self._held_back:
                return False
            # Threads have made room since their requests were held back, before they were asked to tell of it.
            self._held_back.resume()
