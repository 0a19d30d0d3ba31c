"""The errors of the client; each message is a sentence that says what to do."""

from __future__ import annotations


class ClientError(Exception):
    """No whole answer came; the message is a sentence that says what to do."""


class PingError(ClientError):
    """The ping was not answered, or not as a uwsgi server answers it."""


class RequestError(ClientError):
    """The request was not answered, or not with HTTP."""


class TruncatedAnswerError(RequestError):
    """The answer began and broke off.

    Attributes:
        received_bytes: how many bytes of the body had arrived; 0 where the head was cut.
    """

    def __init__(self, message: str, *, received_bytes: int) -> None:
        super().__init__(message)
        self.received_bytes = received_bytes


def describe(error: OSError) -> str:
    """Give the system's words for an error."""
    return error.strerror or str(error)
