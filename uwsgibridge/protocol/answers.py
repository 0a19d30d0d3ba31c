"""The bridge's own answers, which are sent in place of an application's; each body is one sentence.

There is a function for each answer. All functions take the method: after HEAD, the head has the length that GET would
get, and no body follows (RFC 9110, section 9.3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from uwsgibridge.protocol.errors import ProtocolError
from uwsgibridge.protocol.response import Response
from uwsgibridge.protocol.response_headers import encode_lines
from uwsgibridge.protocol.status import status_line
from uwsgibridge.quick_dataclass import dataclass

_CONTENT_TYPE: Final = (b"Content-Type", b"text/plain; charset=utf-8")

# A stopped server is started again, or another one takes over, within about a second.
_RETRY_SOON: Final = ((b"Retry-After", b"1"),)


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """A whole answer.

    Attributes:
        status: the HTTP status; 0 where the peer would understand no answer.
        data: head and body as they are sent; empty with status 0.
        body_bytes: how many bytes of `data` are body.
    """

    status: int
    data: bytes
    body_bytes: int

    def sent_head(self) -> bytes:
        """Give the head, without its end."""
        return self.data.partition(b"\r\n\r\n")[0]


# A function that makes an answer; it takes the method of the request.
AnswerMaker: TypeAlias = Callable[[str], OwnAnswer]


def refused(error: ProtocolError, method: str) -> OwnAnswer:
    """Answer what was refused; the error has the status, the sentence and the headers.

    Args:
        error: why it was refused. Without a status, the answer is empty.
        method: of the request, as far as it is known.
    """
    if error.status is None:
        return OwnAnswer(0, b"", 0)
    return _plain(error.status, str(error), method, error.headers)


def not_mounted(method: str) -> OwnAnswer:
    """Answer a path that no application is mounted at."""
    return _plain(404, "No application is mounted at this path.", method)


def body_stalled(method: str) -> OwnAnswer:
    """Answer a request whose body stopped arriving."""
    return _plain(408, "The request's body did not arrive in time.", method)


def application_failed(method: str) -> OwnAnswer:
    """Answer in the place of an application that raised something, or broke a rule."""
    return _plain(500, "The application failed. The server's log says why.", method)


def file_failed(method: str) -> OwnAnswer:
    """Answer in the place of a file that can't be read."""
    return _plain(500, "The file can't be read. The server's log says why.", method)


def overdue(method: str) -> OwnAnswer:
    """Answer a request that took too long."""
    return _plain(504, "The application did not answer in time.", method)


def stopping(method: str) -> OwnAnswer:
    """Answer a request that no thread or task is left to run, or that was broken off."""
    return _plain(503, "The server can't run this request now.", method, _RETRY_SOON)


def too_busy(method: str, retry_seconds: int) -> OwnAnswer:
    """Answer a request that has waited for too long, or that is one too many.

    Args:
        method: of the request.
        retry_seconds: when the client may try again (RFC 9110, section 10.2.3).
    """
    again = (b"Retry-After", str(retry_seconds).encode())
    return _plain(503, "The server is too busy for this request.", method, (again,))


def not_running(text: str, method: str) -> OwnAnswer:
    """Answer in the place of a bridge that does not run.

    Args:
        text: why the bridge does not run, without a line end.
        method: of the request.
    """
    return _plain(503, text, method)


def handshake_denied(method: str) -> OwnAnswer:
    """Answer a WebSocket's handshake that the application has closed."""
    return _plain(403, "The WebSocket was refused.", method)


def probed(method: str, head_padding: int = 0) -> OwnAnswer:
    """Answer a request of ``nginx --check --probe``, which no application sees.

    Args:
        method: of the request.
        head_padding: how many bytes longer the head is to be; fewer than the name of a header are none.
    """
    name = b"X-Padding"
    value = b"x" * (head_padding - len(name) - len(b": \r\n"))
    return _plain(200, "The probe has arrived.", method, ((name, value),) if value else ())


def probed_in_parts(method: str) -> tuple[OwnAnswer, bytes]:
    """Answer likewise, in two parts: the second one is sent later, and ends the answer."""
    response = Response(method)
    response.start(200, status_line(200), [_CONTENT_TYPE])
    first = b"".join(response.send(b"The first part.\n", last=False))
    second = b"".join(response.send(b"The second part.\n", last=True))
    return OwnAnswer(200, first, response.body_bytes), second


def switching_protocols(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Give the head that opens a WebSocket (RFC 6455, section 4.2.2); frames follow it.

    Args:
        headers: all headers; they are validated here.

    Raises:
        InvalidResponse: a header can't be sent.
    """
    return encode_lines(b"101 Switching Protocols", headers)


def _plain(
    status: int, text: str, method: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> OwnAnswer:
    response = Response(method)
    response.start(status, status_line(status), [_CONTENT_TYPE, *headers])
    data = b"".join(response.send(text.encode() + b"\n", last=True))
    return OwnAnswer(status, data, response.body_bytes)
