"""Decides, when the turn of a request has come, whether it is still to be run.

A request may have waited for long: in Nginx, in the backlog, for a thread. Meanwhile its client may have given up, and an
answer would be work for nobody. Where more requests come than can be run, work for nobody is all that gets done in the
end: each answer comes after its client has gone. So what is too old is refused at once, and what nobody waits for is dropped.
"""

from __future__ import annotations

import math
import time
from time import monotonic
from typing import TYPE_CHECKING, Final

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.exchange import EndingContext, answer_instead, record_own_answer
from uwsgibridge.protocol import answers
from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.sent import seconds_since_sent

if TYPE_CHECKING:
    from uwsgibridge.config.settings import Settings
    from uwsgibridge.telemetry.overload import OverloadLog

# To look at a client costs a system call. One whose request has waited here for less is not looked at. This and the next
# one stand in `fast/leaving.h` as well.
LOOK_SECONDS: Final = 0.005

# Where one client is gone, the requests that come next have waited as long: so many of them are looked at.
LOOKS_AFTER_ONE: Final = 64

# When a client may try again whose request was refused.
_LEAST_RETRY_SECONDS: Final = 1
_MOST_RETRY_SECONDS: Final = 60


def retry_seconds(settings: Settings) -> int:
    """Tell how long a client is to wait that was refused: as long as requests may wait here, which is what the queue takes to pass.

    Args:
        settings: the limit of the queue.

    Returns:
        Whole seconds, from 1 to 60.
    """
    wanted = math.ceil(settings.max_queue_seconds)
    return max(_LEAST_RETRY_SECONDS, min(_MOST_RETRY_SECONDS, wanted))


def waited_seconds(connection: Connection) -> float:
    """Tell how long a request has waited: since the frontend has sent it, or else since it was accepted."""
    since_sent = seconds_since_sent(connection.request.vars, time.time())
    return monotonic() - connection.accepted_at if since_sent is None else since_sent


def path_on_the_wire(request: Request) -> str:
    """Give the whole path as the frontend has sent it, whatever a mount has made of it."""
    variables = request.vars
    return variables["SCRIPT_NAME"] + variables["PATH_INFO"]


class Turn:
    """Decides for the requests of one host; from any of its threads.

    Args:
        settings: the limits.
        overload: counts and logs what is refused.
        ending: the host's part; ends what is not run.
    """

    def __init__(self, settings: Settings, overload: OverloadLog, ending: EndingContext) -> None:
        self.looks = not settings.run_abandoned
        self.max_queue_seconds = settings.max_queue_seconds
        # As the wire has them: UTF-8 bytes, decoded as latin-1.
        self._exempt = frozenset(it.encode().decode("latin-1") for it in settings.health_path)
        self._retry_seconds = retry_seconds(settings)
        self._looks_left = 0
        self._overload = overload
        self._ending = ending

    def refuses(self, connection: Connection) -> bool:
        """End a request that is not to be run; False for one that is, with nothing done."""
        if (
            self.looks
            and monotonic() - connection.accepted_at > LOOK_SECONDS
            and self.drops(connection)
        ):
            return True
        if not self.max_queue_seconds or waited_seconds(connection) <= self.max_queue_seconds:
            return False
        if self.exempts(connection.request):
            return False
        self._refuse(connection, "queue_timeout", "--max-queue-seconds")
        return True

    def exempts(self, request: Request) -> bool:
        """Whether a request is a health check, which no overload concerns."""
        return bool(self._exempt) and path_on_the_wire(request) in self._exempt

    def drops(self, connection: Connection) -> bool:
        """End a request whose client is gone; False where the client is there, or its request is to be run all the same."""
        if not (self.looks and connection.has_hung_up()):
            return False
        ending = self._ending
        connection.force_close()
        record_own_answer(ending.recorders.shared, connection, 0)
        ending.reporter.abandoned(connection.request, accepted_at=connection.accepted_at)
        ending.release(connection)
        return True

    def refuse_over_limit(self, connection: Connection) -> None:
        """End a request for which its mount has no place, or had none for too long."""
        self._refuse(connection, "mount_limit", "--mount-limit")

    def _refuse(self, connection: Connection, reason: str, option: str) -> None:
        self._overload.count(reason, option)
        answer = answers.too_busy(connection.request.method, self._retry_seconds)
        answer_instead(self._ending, connection, answer)
