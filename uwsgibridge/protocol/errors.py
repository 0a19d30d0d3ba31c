"""What can be wrong on the wire, and what to answer.

There are two kinds of errors, because different people have to act:

- `ProtocolError`: the peer sent something that is not served. The operator of the frontend acts.
- `InvalidResponse`: the application asked for an answer that can't be sent. Its developer acts.

Any other exception from `uwsgibridge.protocol` is a defect of the bridge.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """What a peer sent is refused.

    Attributes:
        status: the HTTP status of the answer; None where the peer would understand no answer, so that the
            connection is closed without one.
        reason: a short constant name for counters and log events, such as ``malformed_packet``.
        option: the option that could allow it (``--max-vars``); None where none could.
        headers: further headers of the answer.
        request: the refused `Request`; None where its vars are not known.
        method: used where there is no request, as far as it is known: HEAD gets an answer without a body.
    """

    status: int | None = 400
    reason = "protocol_error"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    request: object = None
    method = "GET"

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class MalformedPacket(ProtocolError):
    """The bytes are not a uwsgi packet: a size runs past the end, or a key is empty."""

    reason = "malformed_packet"


class UnsupportedModifier(ProtocolError):
    """A command of uWSGI other than a request or a ping, which the bridge never carries out."""

    status = None
    reason = "unsupported_modifier"


class HttpNotUwsgi(ProtocolError):
    """HTTP arrived, from ``proxy_pass`` or a browser, where ``uwsgi_pass`` belongs."""

    reason = "http_not_uwsgi"


class TlsNotUwsgi(ProtocolError):
    """A TLS handshake arrived, whose peer would not understand an HTTP answer."""

    status = None
    reason = "tls_not_uwsgi"


class TooManyVars(ProtocolError):
    """The vars are over a limit, in bytes or in number (RFC 6585, section 5)."""

    status = 431
    reason = "vars_over_limit"


class InvalidContentLength(ProtocolError):
    """``CONTENT_LENGTH`` is not a plain decimal number, so the body's end is unknown."""

    reason = "invalid_content_length"


class BodyTooLarge(ProtocolError):
    """The declared body is over ``--max-body-bytes`` (RFC 9110, section 15.5.14)."""

    status = 413
    reason = "body_over_limit"


class InvalidResponse(RuntimeError):
    """The application's answer breaks a rule; sending it would mislead the frontend."""


class IncompleteBody(InvalidResponse):
    """The application ended its body before its own Content-Length."""
