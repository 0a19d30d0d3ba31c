"""A worker as its supervisor sees it: whether it lives, is ready and answers, and what it holds."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge.link.figures import Figures
from uwsgibridge.link.flights import Held, figures_of, read_flights
from uwsgibridge.link.messages import (
    DRAIN,
    DUMP_SIGNAL,
    LAST,
    MAX_BYTES,
    PING,
    STACKS,
    Leave,
    WorkerMessage,
)
from uwsgibridge.supervisor.recycling import WorkerLimits
from uwsgibridge.system.memory_file import make_memory_file

# After this silence a dump of `faulthandler`, which writes it in one go, is complete.
_DUMP_QUIET_SECONDS: Final = 0.2
_DUMP_SECONDS: Final = 2.0

# How long a dump may be: `faulthandler` writes a hundred threads with a hundred frames each at the most.
_MAX_DUMP_BYTES: Final = 1_048_576

# How long `status` waits for the answers to its pings; without an answer, a worker's figures are not known.
STATUS_SECONDS: Final = 0.5

# How long to wait for a worker's own stacks. A worker whose loop is blocked is asked by `faulthandler` then.
_STACKS_SECONDS: Final = 1.0


class WorkerProcess:
    """One worker, from its fork to its end.

    Args:
        pid: of its process.
        limits: the worker's own limits, for recycling.
        descriptors: of the link, the flights and the stack pipe; owned from now on.
        changed: called when the worker has said something that a decision may depend on.
        age_seconds: of a worker that is taken over.
        is_ready: whether a worker that is taken over accepts requests.
        is_stopping: whether a worker that is taken over was asked to end.
        end_seconds: as a worker that is taken over has told.
        answered: called with the seconds that an answer to a ping has taken.

    Attributes:
        has_ended: whether the process has ended. The kernel tells that by a pidfd; without one, the end of file of
            the stack pipe does.
        is_being_killed: whether the worker is being killed, and the log says why.
        has_enough: whether the worker has had its number of requests.
        unfit: why the worker asks to be replaced; None where it does not.
        end_seconds: how long the worker's end may take at the most, as the worker told when it was ready.
        due_since: since when the worker is due to be recycled; None where it is not.
        figures: from the worker's last answer.
        answer_seconds: how long the last answer took.
    """

    def __init__(
        self,
        pid: int,
        limits: WorkerLimits,
        descriptors: Sequence[int],
        *,
        changed: Callable[[], None],
        age_seconds: float = 0.0,
        is_ready: bool = False,
        is_stopping: bool = False,
        end_seconds: float = 0.0,
        answered: Callable[[float], None] | None = None,
    ) -> None:
        self.pid = pid
        self.limits = limits
        self.has_ended = False
        self.is_being_killed = False
        self.has_enough = False
        self.unfit: str | None = None
        self.end_seconds = end_seconds
        self.due_since: float | None = None
        self.figures: Figures | None = None
        self.answer_seconds = 0.0
        self._changed = changed
        self._answered = answered
        self._started_at = monotonic() - age_seconds
        self._ready_since = self._started_at if is_ready else None
        self._stopping_since = monotonic() if is_stopping else None
        self._heard_at: float | None = None
        self._asked_at: float | None = None
        self._stacks: str | None = None
        self._inquiries = 0
        self._unanswered: set[int] = set()
        self._dumped = bytearray()
        self._dumping = trio.Lock()
        self._said_something = trio.Event()
        link, self._flights, self._dumps = descriptors
        self._process = self._open_process()
        self._link = socket.socket(fileno=link)
        self._link.setblocking(False)
        os.set_blocking(self._dumps, False)

    @property
    def is_ready(self) -> bool:
        """Whether the worker accepts requests."""
        return self._ready_since is not None

    @property
    def ready_seconds(self) -> float:
        """How long the worker has accepted requests; 0 where it is not ready."""
        return 0.0 if self._ready_since is None else monotonic() - self._ready_since

    @property
    def is_stopping(self) -> bool:
        """Whether the worker was asked to end."""
        return self._stopping_since is not None

    @property
    def stopping_seconds(self) -> float:
        """How long ago the worker was asked to end; 0 where it was not asked."""
        return 0.0 if self._stopping_since is None else monotonic() - self._stopping_since

    @property
    def age_seconds(self) -> float:
        """How old the worker is."""
        return monotonic() - self._started_at

    @property
    def heard_seconds_ago(self) -> float | None:
        """How long ago the worker's last answer came; None before the first."""
        return None if self._heard_at is None else monotonic() - self._heard_at

    @property
    def silent_seconds(self) -> float:
        """How long the worker has not answered a question; 0 where no question is open."""
        return 0.0 if self._asked_at is None else monotonic() - self._asked_at

    @property
    def queue_seconds(self) -> float:
        """How long a request waits in the worker, as far as that is known."""
        told = self.figures.queue_seconds if self.figures is not None else 0.0
        return max(told, self.answer_seconds, self.silent_seconds)

    def mark_ready(self, end_seconds: float) -> None:
        """Mark the worker as one that accepts requests, and record how long its end may take."""
        self._ready_since = monotonic()
        self.end_seconds = end_seconds

    def ask(self) -> None:
        """Send a ping, unless an earlier one is not answered; `listen` gets the answer."""
        if self._asked_at is None and self._send(PING):
            self._asked_at = monotonic()

    async def listen(self) -> None:
        """Read the worker's messages until it ends or `close` is called."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_messages)
            if self._process is None:
                await self._read_stack_pipe()
            else:
                nursery.start_soon(self._read_stack_pipe)
                await self._watch_process(self._process)
            nursery.cancel_scope.cancel()

    def _open_process(self) -> int | None:
        try:
            return os.pidfd_open(self.pid)
        except ProcessLookupError:
            self.has_ended = True
        except (OSError, AttributeError):  # too many open files, a sandbox, or no Linux
            pass
        return None

    async def _watch_process(self, process: int) -> None:
        """Wait until the worker's process has ended, whether or not its template reports it."""
        with contextlib.suppress(trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(process)
            self.has_ended = True
            self._wake_waiters()

    async def _receive_messages(self) -> None:
        while not self._is_closed():
            try:
                await trio.lowlevel.wait_readable(self._link)
                message = WorkerMessage.decode(self._link.recv(MAX_BYTES))
            except BlockingIOError:
                continue
            except (trio.ClosedResourceError, OSError):
                return
            self._handle_message(message)

    async def _read_stack_pipe(self) -> None:
        """Read the stack pipe until the worker ends, also without a request for a dump: a full pipe would block it."""
        while not (self.has_ended or self._is_closed()):
            with contextlib.suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(self._dumps)
            if self._is_closed():
                return  # the number may be that of another file by now
            try:
                piece = os.read(self._dumps, MAX_BYTES)
            except BlockingIOError:
                continue
            self.has_ended = not piece
            self._dumped += piece
            del self._dumped[:-_MAX_DUMP_BYTES]
            self._wake_waiters()

    async def heartbeat(self, seconds: float) -> None:
        """Send a ping, and wait up to so many seconds for the answer."""
        self.ask()
        with trio.move_on_after(seconds):
            await self._wait_for(lambda: self._asked_at is None)

    async def stacks(self) -> str:
        """Ask the worker for its stacks; where it does not answer, have `faulthandler` write them."""
        self._stacks = None
        if self.is_ready and self._send(STACKS):
            with trio.move_on_after(_STACKS_SECONDS):
                await self._wait_for(lambda: self._stacks is not None)
        return self._stacks if self._stacks is not None else await self.dump()

    async def inquire(
        self, subject: str, arguments: Mapping[str, Any], *, seconds: float
    ) -> dict[str, Any] | None:
        """Ask the worker something whose answer may be long.

        Args:
            subject: what is asked for; see `uwsgibridge.worker.inquiries`.
            arguments: of the question, as values that JSON has.
            seconds: how long the answer may take.

        Returns:
            The answer; None where the worker gives none in time, or is of a version that does not know the question, and
            where no memory file can be made.
        """
        # Imported here: most workers are never asked anything of the kind.
        from uwsgibridge.link.inquiries import Inquiry, read_answer

        self._inquiries += 1
        number = self._inquiries
        try:
            descriptor = make_memory_file("uwsgibridge-answer")
        except OSError:  # too many open files, or too little memory
            return None
        try:
            self._unanswered.add(number)
            question = Inquiry(number, subject, arguments).encode()
            if not (self.is_ready and self._send(question, descriptor)):
                return None
            with trio.move_on_after(seconds):
                await self._wait_for(lambda: number not in self._unanswered)
            return None if number in self._unanswered else read_answer(descriptor)
        finally:
            self._unanswered.discard(number)
            os.close(descriptor)

    async def dump(self) -> str:
        """Have `faulthandler` write where the worker's threads are, whatever they do."""
        async with self._dumping:
            self._dumped.clear()
            if not self.signal(DUMP_SIGNAL):
                return ""
            with trio.move_on_after(_DUMP_SECONDS):
                await self._wait_for(lambda: bool(self._dumped))
                known = 0
                while known < len(self._dumped):
                    known = len(self._dumped)
                    await trio.sleep(_DUMP_QUIET_SECONDS)
            return self._dumped.decode("utf-8", "replace").rstrip("\n")

    def tell_last(self) -> None:
        """Tell the worker, before `stop`, that all workers stop, so that nobody else serves the backlogs."""
        self._send(LAST)

    def announce_leave(self, descriptors: Sequence[int]) -> None:
        """Announce that all workers are about to leave some sockets."""
        self._send(Leave(tuple(descriptors)).encode())

    def begin_leave(self, descriptors: Sequence[int]) -> None:
        """Have the worker leave some sockets now; `announce_leave` has told all workers of them."""
        self._send(Leave(tuple(descriptors), begins=True).encode())

    def stop(self) -> None:
        """Ask the worker to drain and end."""
        if self._stopping_since is None:
            self._stopping_since = monotonic()
        self._send(DRAIN)
        self.signal(signal.SIGTERM)

    def hurry(self) -> None:
        """Ask the worker to end at once."""
        if self._stopping_since is None:
            self._stopping_since = monotonic()
        # Before the worker has its handlers, SIGTERM ends it.
        self.signal(signal.SIGINT if self.is_ready else signal.SIGTERM)

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False where the process is gone."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def held(self) -> Held:
        """Tell what the worker held when it ended."""
        return read_flights(self._flights)

    @contextlib.contextmanager
    def counted(self) -> Iterator[memoryview | None]:
        """Give what the worker counts in, as it is now; None of an older version, or where it can't be read."""
        with contextlib.ExitStack() as stack:
            try:
                memory = stack.enter_context(figures_of(self._flights))
            except OSError:  # too little memory, or too many mappings
                memory = None
            yield memory

    @staticmethod
    def adopt(
        heritage: Mapping[str, Any],
        *,
        changed: Callable[[], None],
        answered: Callable[[float], None] | None = None,
    ) -> WorkerProcess:
        """Take over a worker that `bequeath` has described, after an exec."""
        return WorkerProcess(
            heritage["pid"],
            WorkerLimits(*heritage["limits"]),
            heritage["descriptors"],
            changed=changed,
            age_seconds=heritage["age_seconds"],
            is_ready=heritage["is_ready"],
            is_stopping=heritage["is_stopping"],
            end_seconds=heritage.get("end_seconds", 0.0),
            answered=answered,
        )

    def bequeath(self) -> dict[str, Any]:
        """Describe the worker for `adopt`, as JSON values, and forget it; ``descriptors`` have to be inherited."""
        self._close_process()
        return {
            "pid": self.pid,
            "limits": dataclasses.astuple(self.limits),
            "descriptors": [self._link.detach(), self._flights, self._dumps],
            "age_seconds": self.age_seconds,
            "is_ready": self.is_ready,
            "is_stopping": self.is_stopping,
            "end_seconds": self.end_seconds,
        }

    def close(self) -> None:
        """Close the descriptors of a worker that has ended."""
        if not self._is_closed():
            trio.lowlevel.notify_closing(self._link)
            trio.lowlevel.notify_closing(self._dumps)
            self._link.close()
            self._wake_waiters()
            os.close(self._flights)
            os.close(self._dumps)
            self._close_process()

    def _close_process(self) -> None:
        if self._process is not None:
            trio.lowlevel.notify_closing(self._process)
            os.close(self._process)
            self._process = None

    def _is_closed(self) -> bool:
        return self._link.fileno() < 0

    def read_last_messages(self) -> None:
        """Read the messages that the worker has sent so far; where it has ended, these are the last ones."""
        with contextlib.suppress(OSError):  # BlockingIOError: no message is left
            while True:
                self._handle_message(WorkerMessage.decode(self._link.recv(MAX_BYTES)))

    def describe(self) -> dict[str, Any]:
        """Give the worker's state and figures, for `status`."""
        figures = self.figures
        return {
            "pid": self.pid,
            "state": self.state,
            "age_seconds": round(self.age_seconds, 3),
            "requests": figures.requests if figures else None,
            "app_errors": figures.app_errors if figures else None,
            "client_gone": figures.client_gone if figures else None,
            "slow_requests": figures.slow_requests if figures else None,
            "refused": dict(figures.refused) if figures else None,
            "in_flight": figures.in_flight if figures else None,
            "capacity": figures.capacity if figures else None,
            "websockets": figures.websockets if figures else None,
            "queue_seconds": round(self.queue_seconds, 4) if figures else None,
        }

    @property
    def state(self) -> str:
        """The state in a word, as `uwsgibridge.figures.snapshot.WORKER_STATES` has them."""
        if self.has_ended:
            return "ended"
        if self.is_stopping:
            return "stopping"
        if not self.is_ready:
            return "starting"
        if self.silent_seconds >= STATUS_SECONDS:
            return "stuck"
        full = self.figures is not None and self.figures.in_flight >= self.figures.capacity
        return "busy" if full else "ready"

    def _handle_message(self, message: WorkerMessage) -> None:
        now = monotonic()
        self._heard_at = now
        if message.figures is not None:
            self.figures = message.figures
            if self._asked_at is not None:
                self.answer_seconds = now - self._asked_at
                if self._answered is not None:
                    self._answered(self.answer_seconds)
            self._asked_at = None
        if message.stacks is not None:
            self._stacks = message.stacks
        self._unanswered.discard(message.answered)
        if message.has_enough or message.unfit:
            self.has_enough |= message.has_enough
            self.unfit = self.unfit or message.unfit
            self._changed()
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        self._said_something.set()
        self._said_something = trio.Event()

    async def _wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until a message makes a condition true, or no message can come any more."""
        while not (is_so() or self.has_ended or self._is_closed()):
            await self._said_something.wait()

    def _send(self, question: bytes, *descriptors: int) -> bool:
        # A message to a worker that has closed its end has Linux drop what that worker has sent before
        # (`unix_dgram_disconnected`): its last figures, which are in no other message.
        self.read_last_messages()
        with contextlib.suppress(OSError):  # it ends, or has not read the last ones
            if descriptors:
                socket.send_fds(self._link, [question], descriptors)
            else:
                self._link.send(question)
            return True
        return False
