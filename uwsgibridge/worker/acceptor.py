"""Accepts on one listening socket, in batches, and decides what each failure of accept(2) means."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING, Final, Protocol

from uwsgibridge.config.address import Address
from uwsgibridge.connection import refusing
from uwsgibridge.connection.connection import Connection, accept
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.fast import Intake
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.loop.interface import Loop
from uwsgibridge.worker.sharing import Sharing

if TYPE_CHECKING:
    from uwsgibridge.worker.peer_check import Admits

# How many connections are accepted in one batch at the most, before other work of this thread goes on.
_MAX_BATCH: Final = 32

# How often a batch waits for further connections, each time for 0.3 ms at the most.
_WAITS: Final = 8

# Where batches have a single connection each, one of so many waits. A wait costs up to 40 us of CPU: it sets a timer of the
# processor.
_SINGLE_BATCHES: Final = 16

# Calling accept(2) in vain costs as much as half a request. So a batch is no longer than the last ones were.
# It grows only after this many full batches.
_FULL_BATCHES_TO_GROW: Final = 4

# How soon the loop looks again whether threads that accept by themselves get on.
_LOOK_SECONDS: Final = 0.005

# Errors of accept() which say that the descriptor is no listening socket any more: something in this process has
# closed it (its number may be another file's by now), or a process that shares the socket has shut it down, at
# a stop.
_LOST_SOCKET: Final = frozenset(
    {errno.EBADF, errno.ENOTSOCK, errno.EINVAL, errno.EOPNOTSUPP, errno.EFAULT}
)

# Errors of one connection, which was gone before it was accepted (accept(2), "Error handling").
_LOST_CONNECTION: Final = frozenset(
    {errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH}
)


class Accepting(Protocol):
    """What an acceptor needs of the listener."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing is to be accepted any more."""

    @property
    def is_alone(self) -> bool:
        """Whether no other worker accepts on the sockets."""

    @property
    def has_threads_alone(self) -> bool:
        """Whether no application runs on the loop."""

    def lendable(self) -> object:
        """Give None where nothing is to be accepted now."""

    def room(self) -> int:
        """Count how many more connections may be accepted now."""

    def make_intake(self, listening: ListeningSocket) -> Intake | None:
        """Make what accepts on a socket in batches; None where each connection is accepted for `take`."""

    def peer_check(self, listening: ListeningSocket) -> Admits | None:
        """Make the check of who connects to a socket; None where everybody may. An intake has it already."""

    def note_accepted(self) -> None:
        """Note that connections can be accepted, after `pause_for_resources`."""

    def take(self, connection: Connection) -> None:
        """Take over a connection that was just accepted."""

    def remove_acceptor(self, acceptor: Acceptor, error: OSError) -> None:
        """Stop using a socket that can't be accepted on any more, and report it as lost."""

    def pause_for_resources(self, error: OSError) -> None:
        """Stop accepting for a moment."""


class Acceptor:
    """Accepts on one listening socket.

    Args:
        listener: gets the connections.
        loop: tells when connections wait.
        listening: the socket; owned from now on.
        flights: told that a connection may be accepted next.

    Attributes:
        suspend: stops watching the socket until `resume`.
    """

    def __init__(
        self, listener: Accepting, loop: Loop, listening: ListeningSocket, flights: FlightRecorder
    ) -> None:
        self._listener = listener
        self._flights = flights
        self._await_packet = flights.await_packet
        self.listening = listening
        self._socket = listening.socket
        self._identity = _identity_of(listening.socket)
        self._poll = select.poll()
        self._poll.register(listening.socket, select.POLLIN)
        self._is_unix = listening.is_unix
        # Plain integers, because the enums of the socket module cost more than the call that gets them.
        self._family = int(listening.socket.family)
        # Without SOCK_NONBLOCK, Python would give each connection the default timeout that an application has
        # set for its own sockets (socket.setdefaulttimeout).
        self._type = int(listening.socket.type) | getattr(socket, "SOCK_NONBLOCK", 0)
        self._intake = listener.make_intake(listening)
        self._admits = None if self._intake else listener.peer_check(listening)
        # With the accelerator, accept(2) in vain costs little, and a turn of the loop much more. But where other
        # workers share the socket, each is to get its part.
        is_alone = listener.is_alone and self._intake is not None
        self._least_batch = _MAX_BATCH if is_alone else 1
        # Threads run the applications meanwhile. An application on the loop itself would stand still.
        self._waits = _WAITS if is_alone and listener.has_threads_alone else 0
        self._batch = self._least_batch
        self._full_batches = 0
        self._single_batches = 0
        self._sharing: Sharing | None = None
        self._loop = loop
        # Whether to look, before accept(2), whose socket it is. An epoll watches the file that it was given, but trio
        # gives it the descriptor anew for each wait, and the other loops after each pause.
        self._looks = self._looks_always = loop.name == "trio"
        watch = loop.watch(listening.socket, self._accept_batch, self.accept_again)
        self.suspend, self._resume_watch, self._close_watch = (
            watch.suspend,
            watch.resume,
            watch.close,
        )

    def resume(self) -> None:
        """Watch the socket again."""
        self._looks = True
        self._resume_watch()

    def share(self, sharing: Sharing) -> None:
        """Leave connections to threads that accept by themselves, as long as they get on."""
        self._sharing = sharing

    def divert(self, is_diverted: bool) -> None:
        """Accept without the accelerator from now on, or with it again."""
        self._intake = None if is_diverted else self._listener.make_intake(self.listening)
        self._admits = None if self._intake else self._listener.peer_check(self.listening)

    def _end_sharing(self) -> None:
        if self._sharing is not None:
            sharing, self._sharing = self._sharing, None
            sharing.end()

    def close(self, most: int, *, is_last: bool) -> None:
        """Close the socket; where nobody shares it, accept the connections in its backlog first.

        Args:
            most: how many connections to accept at the most.
            is_last: whether nobody else accepts on an inherited socket any more.
        """
        self._close_watch()
        self._end_sharing()
        if self.listening.is_inherited and not is_last:
            self.listening.close()
            return
        self.listening.remove_file()
        taken = 0
        while taken < most:
            try:
                accepted = self._accept(most - taken)
            except OSError as error:
                self._flights.drop_packet()
                if error.errno not in _LOST_CONNECTION:
                    break
                accepted = 1
            if not accepted:
                break
            taken += accepted
        refusing.refuse_all(self.listening)
        self.listening.close()

    def check(self) -> None:
        """Have the listener remove this acceptor where its socket does not listen any more."""
        if self.is_replaced:
            self._listener.remove_acceptor(self, OSError(errno.EBADF, ""))
        elif not self.listening.listens:
            self._listener.remove_acceptor(self, OSError(errno.ESHUTDOWN, ""))

    @property
    def is_replaced(self) -> bool:
        """Whether the socket's descriptor is closed, or is another file's by now."""
        return self._identity is None or self._identity != _identity_of(self._socket)

    def _is_replaced_now(self) -> bool:
        self._looks = self._looks_always
        return self.is_replaced

    def forget_socket(self) -> Address:
        """Forget the socket without closing its descriptor, whose number may be another file's by now.

        Returns:
            The address of the socket.
        """
        self._close_watch()
        self._end_sharing()
        self.listening.socket.detach()
        return self.listening.address

    def _accept_batch(self) -> bool:
        """Accept a batch; True where the batch was full, so that more connections may wait."""
        listener = self._listener
        if listener.is_closed:
            return False  # the loop had seen a connection before the watch was closed
        if self._sharing is not None and self._sharing.gets_on():
            self.suspend()
            self._loop.call_later(_LOOK_SECONDS, self._look_again)
            return False
        taken, most = 0, min(self._batch, listener.room())
        while taken < most:
            asked = most - taken
            try:
                accepted = self._accept(asked)
            except BlockingIOError:
                self._flights.drop_packet()
                return self._end_batch(taken)
            except OSError as error:
                self._flights.drop_packet()
                if error.errno in _LOST_CONNECTION:
                    taken += 1
                    continue
                if error.errno in _LOST_SOCKET:
                    listener.remove_acceptor(self, error)
                else:
                    listener.pause_for_resources(error)
                return False
            taken += accepted
            if accepted < asked and self._intake is not None and not self._intake.failed:
                return self._end_batch(taken)
        # The loops watch by level, not by edge: they report the connections that still wait.
        self._full_batches += 1
        if self._full_batches == _FULL_BATCHES_TO_GROW:
            self._batch = min(_MAX_BATCH, self._batch * 2)
            self._full_batches = 0
        return True

    def _look_again(self) -> None:
        """Watch the socket again, on which threads accept."""
        if self._sharing is not None and self._listener.lendable() is not None:
            self.resume()

    def _end_batch(self, taken: int) -> bool:
        """End a batch that found no more connections; False, since none waits."""
        self._batch = max(self._least_batch, taken)
        self._full_batches = 0
        return False

    def accept_again(self) -> bool:
        """Accept a further batch, where nobody has looked whether a connection waits."""
        if self.is_replaced:
            # The number may be another server's socket by now. Where that one blocks, accept(2) would wait for ever.
            self._listener.remove_acceptor(self, OSError(errno.EBADF, ""))
            return False
        if not self._poll.poll(0):
            # A thread of the application may have put that socket there just now, after the look above.
            return False
        return self._accept_batch()

    def _accept(self, most: int) -> int:
        """Accept up to so many connections, and have them taken over; give their number.

        Raises:
            OSError: as accept(2) has it; then no connection was accepted. With the accelerator, the number is 0 in
                place of a `BlockingIOError`.
        """
        if self._intake is not None:
            # Where connections come one by one, nearly each wait for a further one would be in vain.
            waits = 0 if self._single_batches % _SINGLE_BATCHES else self._waits
            taken = self._intake.accept(self._socket.fileno(), most, waits)
            self._single_batches = self._single_batches + 1 if taken == 1 else 0
        else:
            if self._looks and self._is_replaced_now():
                # Another server's: accept(2) would take what is not ours, or, where that one blocks, wait for ever.
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._await_packet()
            accepted = accept(self._socket, self._family, self._type)
            if self._admits is None or self._admits(accepted.fileno()):
                self._listener.take(Connection(accepted, is_unix=self._is_unix))
            else:
                self._flights.drop_packet()
                accepted.close()
            taken = 1
        self._listener.note_accepted()
        if self._sharing is not None:
            self._sharing.go_on()
        return taken


def _identity_of(listening: socket.socket) -> tuple[int, int] | None:
    """Give the identity of the socket that has this descriptor; None where the descriptor is closed."""
    try:
        found = os.fstat(listening.fileno())
    except OSError:
        return None
    return found.st_dev, found.st_ino
