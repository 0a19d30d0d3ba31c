"""The bridge's own answers: each is these bytes, and has no body after HEAD."""

from __future__ import annotations

from functools import partial

import pytest

from uwsgibridge.protocol import answers
from uwsgibridge.protocol.answers import AnswerMaker, OwnAnswer
from uwsgibridge.protocol.errors import (
    HttpNotUwsgi,
    InvalidContentLength,
    InvalidResponse,
    MalformedPacket,
    ProtocolError,
    TlsNotUwsgi,
    TooManyVars,
    UnsupportedModifier,
)


class Busy(ProtocolError):
    """Has what an error can have."""

    status = 503
    reason = "busy"
    headers = ((b"Retry-After", b"5"),)


def refusal(error: ProtocolError) -> AnswerMaker:
    return partial(answers.refused, error)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "head"])
@pytest.mark.parametrize(
    ("make_answer", "status", "reason_and_headers", "sentence"),
    [
        (
            answers.not_mounted,
            404,
            [b"Not Found", b"Content-Length: 40"],
            b"No application is mounted at this path.\n",
        ),
        (
            answers.body_stalled,
            408,
            [b"Request Timeout", b"Content-Length: 43"],
            b"The request's body did not arrive in time.\n",
        ),
        (
            answers.application_failed,
            500,
            [b"Internal Server Error", b"Content-Length: 51"],
            b"The application failed. The server's log says why.\n",
        ),
        (
            answers.overdue,
            504,
            [b"Gateway Timeout", b"Content-Length: 40"],
            b"The application did not answer in time.\n",
        ),
        (
            answers.stopping,
            503,
            [b"Service Unavailable", b"Retry-After: 1", b"Content-Length: 39"],
            b"The server can't run this request now.\n",
        ),
        (
            answers.handshake_denied,
            403,
            [b"Forbidden", b"Content-Length: 27"],
            b"The WebSocket was refused.\n",
        ),
        (
            partial(answers.not_running, "It ended für ever."),
            503,
            [b"Service Unavailable", b"Content-Length: 20"],
            b"It ended f\xc3\xbcr ever.\n",
        ),
        (
            refusal(Busy("Full.")),
            503,
            [b"Service Unavailable", b"Retry-After: 5", b"Content-Length: 6"],
            b"Full.\n",
        ),
        (refusal(MalformedPacket("Why.")), 400, [b"Bad Request", b"Content-Length: 5"], b"Why.\n"),
        (refusal(HttpNotUwsgi("Why.")), 400, [b"Bad Request", b"Content-Length: 5"], b"Why.\n"),
        (
            refusal(InvalidContentLength("Why.")),
            400,
            [b"Bad Request", b"Content-Length: 5"],
            b"Why.\n",
        ),
        (
            refusal(TooManyVars("Why.")),
            431,
            [b"Request Header Fields Too Large", b"Content-Length: 5"],
            b"Why.\n",
        ),
    ],
)
def test_each_is_these_bytes(
    make_answer: AnswerMaker,
    status: int,
    reason_and_headers: list[bytes],
    sentence: bytes,
    method: str,
) -> None:
    reason, *headers = reason_and_headers
    lines = [
        b"HTTP/1.1 %d %b" % (status, reason),
        b"Content-Type: text/plain; charset=utf-8",
        *headers,
    ]
    body = b"" if method == "HEAD" else sentence
    data = b"\r\n".join(lines) + b"\r\n\r\n" + body
    assert make_answer(method) == OwnAnswer(status, data, len(body))


@pytest.mark.parametrize("error", [UnsupportedModifier("Why."), TlsNotUwsgi("Why.")])
def test_there_is_none_where_none_would_be_understood(error: ProtocolError) -> None:
    assert answers.refused(error, "GET") == OwnAnswer(0, b"", 0)


def test_a_websocket_begins_with_these_bytes() -> None:
    assert answers.switching_protocols([(b"Upgrade", b"websocket"), (b"X", b"y")]) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX: y\r\n\r\n"
    )
    with pytest.raises(InvalidResponse):
        answers.switching_protocols([(b"X", b"a\r\nb: c")])


def test_every_kind_of_refusal_can_be_counted_apart() -> None:
    kinds = [kind for kind in ProtocolError.__subclasses__() if kind is not Busy]
    reasons = [kind.reason for kind in kinds]
    assert len(set(reasons)) == len(reasons) >= 7
    assert all(kind.status is None or 400 <= kind.status < 600 for kind in kinds)
    assert all(kind("Why.").option is None for kind in kinds)
