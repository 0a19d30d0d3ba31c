"""A worker as its supervisor knows it: alive, ready, how it answers, what it holds."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge.supervisor.messages import MAX_BYTES, PING, STACKS, WorkerMessage
from uwsgibridge.supervisor.recycling import WorkerLimits
from uwsgibridge.telemetry.figures import Figures
from uwsgibridge.telemetry.flights import Held, read_flights

# `faulthandler` writes a dump in one go; when nothing comes for so long, it is over.
_DUMP_QUIET_SECONDS: Final = 0.2
_DUMP_SECONDS: Final = 2.0

# A worker whose loop takes its turns answers at once; for the others there is `faulthandler`.
_STACKS_SECONDS: Final = 1.0


class WorkerProcess:
    """One worker, from its fork to its end.

    Args:
        pid: of its process.
        limits: its own, of recycling.
        descriptors: of the link, the flights and the stack pipe; owned from now on.
        changed: called when it has said something that a decision may depend on.
        age_seconds: of one that is taken over.

    Attributes:
        is_ready: whether it accepts requests.
        is_stopping: whether it was asked to end.
        is_doomed: whether it is being killed, with the reason said.
        has_enough: whether it has had its number of requests.
        due_since: when the reason to recycle it was first there.
        figures: as of its last answer.
        answer_seconds: how long that answer took.
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
    ) -> None:
        self.pid = pid
        self.limits = limits
        self.is_ready = is_ready
        self.is_stopping = is_stopping
        self.is_doomed = False
        self.has_enough = False
        self.due_since: float | None = None
        self.figures: Figures | None = None
        self.answer_seconds = 0.0
        self._changed = changed
        self._started_at = monotonic() - age_seconds
        self._heard_at: float | None = None
        self._asked_at: float | None = None
        self._stacks: str | None = None
        self._said_something = trio.Event()
        link, self._flights, self._dumps = descriptors
        self._link = socket.socket(fileno=link)
        self._link.setblocking(False)
        os.set_blocking(self._dumps, False)

    @property
    def descriptors(self) -> list[int]:
        """Those that it came with, for who takes it over."""
        return [self._link.fileno(), self._flights, self._dumps]

    @property
    def age_seconds(self) -> float:
        """How old it is."""
        return monotonic() - self._started_at

    @property
    def heard_seconds_ago(self) -> float | None:
        """How long ago its last answer came; None before the first."""
        return None if self._heard_at is None else monotonic() - self._heard_at

    @property
    def silent_seconds(self) -> float:
        """How long a question has been open; 0 where none is."""
        return 0.0 if self._asked_at is None else monotonic() - self._asked_at

    @property
    def queue_seconds(self) -> float:
        """How long a request waits in it, as far as can be told."""
        told = self.figures.queue_seconds if self.figures is not None else 0.0
        return max(told, self.answer_seconds, self.silent_seconds)

    def ask(self) -> None:
        """Send a ping, unless one is open; the answer comes to `listen`."""
        if self._asked_at is None and self._send(PING):
            self._asked_at = monotonic()

    async def listen(self) -> None:
        """Take what the worker says, until `close`."""
        while True:
            try:
                await trio.lowlevel.wait_readable(self._link)
                message = WorkerMessage.decode(self._link.recv(MAX_BYTES))
            except BlockingIOError:
                continue
            except (trio.ClosedResourceError, OSError):
                return
            self._take(message)

    async def heartbeat(self, seconds: float) -> None:
        """Ask, and wait for the answer as long as that."""
        self.ask()
        with trio.move_on_after(seconds):
            while self._asked_at is not None:
                await self._said_something.wait()

    async def stacks(self) -> str:
        """Ask where its threads and requests are; from outside where it does not answer."""
        self._stacks = None
        if self.is_ready and self._send(STACKS):
            with trio.move_on_after(_STACKS_SECONDS):
                while self._stacks is None:
                    await self._said_something.wait()
        return self._stacks if self._stacks is not None else await self.dump()

    async def dump(self) -> str:
        """Have `faulthandler` tell where its threads are, whatever they do."""
        dumped = bytearray()
        if not self.signal(signal.SIGQUIT):
            return ""
        with trio.move_on_after(_DUMP_SECONDS):
            while True:
                with trio.move_on_after(_DUMP_QUIET_SECONDS if dumped else _DUMP_SECONDS) as quiet:
                    await trio.lowlevel.wait_readable(self._dumps)
                if quiet.cancelled_caught:
                    break
                piece = os.read(self._dumps, MAX_BYTES)
                if not piece:
                    break
                dumped += piece
        return dumped.decode("utf-8", "replace").rstrip("\n")

    def stop(self) -> None:
        """Ask it to drain and end; a second time, to end at once."""
        self.is_stopping = True
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False where the process is gone."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def held(self) -> Held:
        """Tell what it held when it ended."""
        return read_flights(self._flights)

    def close(self) -> None:
        """Let go of what it came with; it has ended, or another takes it over."""
        if self._link.fileno() >= 0:
            trio.lowlevel.notify_closing(self._link)
            trio.lowlevel.notify_closing(self._dumps)
            self._link.close()
            os.close(self._flights)
            os.close(self._dumps)

    def describe(self) -> dict[str, Any]:
        """Tell how it does, for `status`."""
        figures = self.figures
        return {
            "pid": self.pid,
            "state": self._state(),
            "age_seconds": round(self.age_seconds, 3),
            "requests": figures.requests if figures else None,
            "in_flight": figures.in_flight if figures else None,
            "capacity": figures.capacity if figures else None,
            "queue_seconds": round(self.queue_seconds, 4) if figures else None,
        }

    def _state(self) -> str:
        if self.is_stopping:
            return "stopping"
        if not self.is_ready:
            return "starting"
        if self.silent_seconds > _STACKS_SECONDS:
            return "stuck"
        full = self.figures is not None and self.figures.in_flight >= self.figures.capacity
        return "busy" if full else "ready"

    def _take(self, message: WorkerMessage) -> None:
        now = monotonic()
        self._heard_at = now
        if message.figures is not None:
            self.figures = message.figures
            if self._asked_at is not None:
                self.answer_seconds = now - self._asked_at
            self._asked_at = None
        if message.stacks is not None:
            self._stacks = message.stacks
        if message.has_enough:
            self.has_enough = True
            self._changed()
        self._said_something.set()
        self._said_something = trio.Event()

    def _send(self, question: bytes) -> bool:
        with contextlib.suppress(OSError):  # it ends, or has not read the last ones
            self._link.send(question)
            return True
        return False
