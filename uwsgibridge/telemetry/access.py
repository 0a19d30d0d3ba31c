"""What is recorded of a request that is over, for whichever log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias

from uwsgibridge.protocol.request import Request

# Nginx's status for a request whose client has left before there was an answer.
CLIENT_LEFT: Final = 499


class Answered(Protocol):
    """What has sent an answer."""

    def sent_head(self) -> bytes:
        """Give the head of the answer as the application has given it, without its end; empty where none was sent."""


def log_variables(access: Access) -> Mapping[str, str]:
    """Give what the application has set for this line, by the module ``uwsgi``."""
    found: Mapping[str, bytes] | None = getattr(access.answered, "log_variables", None)
    if not found:
        return {}
    return {name: value.decode("utf-8", "replace") for name, value in dict(found).items()}


class Access(NamedTuple):
    """One request that is over.

    Attributes:
        request: what was asked.
        status: of the answer; 0 where none was sent.
        body_bytes: of the answer's body.
        complete: whether the whole answer was sent.
        queue_seconds: from accepting the connection to calling the application.
        application_seconds: from calling the application to the end of its answer.
        answered: has the head of the answer; None where no application was asked.
    """

    request: Request
    status: int
    body_bytes: int
    complete: bool
    queue_seconds: float
    application_seconds: float
    answered: Answered | None = None

    @property
    def total_seconds(self) -> float:
        """From accepting the connection to the end of the answer."""
        return self.queue_seconds + self.application_seconds

    @property
    def shown_status(self) -> int:
        """The status, and 499 where a client left before there was one."""
        return self.status or CLIENT_LEFT


# Records an answer that was sent as a whole: with the request, the status, the bytes of the body, and when the connection
# was accepted and the application called, of `time.monotonic()`.
SentWriter: TypeAlias = Callable[[Request, int, int, float, float], None]


class AccessSink(Protocol):
    """What records accesses."""

    def write(self, access: Access) -> None:
        """Record an access; from any thread."""
