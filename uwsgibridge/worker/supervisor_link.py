"""The worker's end of the link to its supervisor, which answers questions on the worker's own loop.

So an answer says not only that the process lives, but also that its loop is not blocked. The time until the
answer is the time that a request would wait.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

from uwsgibridge.figures.memory import FiguresMemory
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.link.messages import DRAIN, LAST, MAX_BYTES, PING, STACKS, Leave, WorkerMessage
from uwsgibridge.loop.interface import Loop, Watch
from uwsgibridge.worker.worker import Companion, Worker

# A child that the application starts must not inherit what comes with a message; the flag is Linux's.
_CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class WorkerLink(Companion):
    """The companion of a worker that has a supervisor.

    Args:
        channel: the socket of the link, which carries datagrams; owned from now on.
        flights: records of requests, which the supervisor reads when the worker has crashed.
        max_requests: after how many requests the worker asks to be replaced; 0 is never.
        figures: what the worker counts in, which the supervisor reads.
    """

    def __init__(
        self,
        channel: socket.socket,
        flights: FlightRecorder,
        max_requests: int,
        figures: FiguresMemory | None = None,
    ) -> None:
        super().__init__(flights, figures)
        self.max_requests = max_requests
        self._channel = channel
        self._channel.setblocking(False)
        self._watch: Watch | None = None

    def attach(self, worker: Worker, loop: Loop) -> None:
        """Begin to answer the supervisor."""
        self._worker = worker
        self._watch = loop.watch(self._channel, self.catch_up)

    def catch_up(self) -> None:
        """Answer all questions that have arrived."""
        while self._watch is not None and self._answer():
            pass

    def detach(self) -> None:
        """Send the last figures, and answer no more; the supervisor notices the end of the process."""
        if self._watch is not None:
            self._watch.close()
            self._send(WorkerMessage(figures=self._worker.figures()))
        self._channel.close()

    def enough(self) -> None:
        """Ask the supervisor to replace the worker, which serves on until then."""
        self._send(WorkerMessage(has_enough=True))

    def unfit(self, reason: str) -> bool:
        """Ask the supervisor to replace the worker, as `enough` does; False where the supervisor is gone."""
        return self._send(WorkerMessage(unfit=reason))

    def _answer(self) -> bool:
        """Answer one question; False where there is none."""
        try:
            question, descriptors, _, _ = socket.recv_fds(
                self._channel, MAX_BYTES, 1, _CLOSE_ON_EXEC
            )
        except OSError:  # no question is left, or the supervisor is gone, which the lifeline tells
            return False
        if descriptors:
            self._answer_inquiry(question, descriptors[0])
            return True
        if question == PING:
            self._worker.check_sockets()
            self._worker.counters.memory.sample_gil_wait()
            self._send(WorkerMessage(figures=self._worker.figures()))
        elif question == STACKS:
            self._send(WorkerMessage(stacks=self._worker.stacks()))
        elif question == LAST:
            self._worker.set_stop_kind(is_last=True)
        elif question == DRAIN:
            self._worker.set_stop_kind(is_last=False)
            self._worker.drain_wanted.set()
        else:
            leave = Leave.decode(question)
            if leave is None:
                return True
            if leave.begins:
                self._worker.leave_sockets()
            else:
                self._worker.mark_leaving(leave.descriptors)
        return True

    def _answer_inquiry(self, question: bytes, descriptor: int) -> None:
        """Answer a question whose answer goes into a memory file, which is closed here."""
        # Imported here: most workers are never asked anything of the kind.
        from uwsgibridge.link.inquiries import Inquiry
        from uwsgibridge.worker.inquiries import answer_inquiry

        inquiry = Inquiry.decode(question)
        if inquiry is None:
            os.close(descriptor)
            return
        number = inquiry.number
        answer_inquiry(
            self._worker, inquiry, descriptor, lambda: self._send(WorkerMessage(answered=number))
        )

    def _send(self, message: WorkerMessage) -> bool:
        # BlockingIOError: the supervisor has not read earlier answers, and will ask again.
        with contextlib.suppress(OSError):
            self._channel.send(message.encode())
            return True
        return False
