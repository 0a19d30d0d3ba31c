"""Why a WSGI host refuses the handshake of a WebSocket."""

from __future__ import annotations

from typing import Final

from uwsgibridge.protocol.errors import ProtocolError
from uwsgibridge.protocol.handshake import HandshakeRefused

# The option that allows WebSockets, and bounds them.
OPTION: Final = "--wsgi-websockets"

# The next worker or another server may have room at once.
_RETRY_SOON: Final = ((b"Retry-After", b"1"),)


class NoWebSockets(HandshakeRefused):
    """WSGI has no WebSockets, and the option that brings them is not set."""

    reason = "wsgi_without_websockets"


class TooManyWebSockets(ProtocolError):
    """A WSGI application has as many WebSockets as its option allows."""

    status = 503
    reason = "wsgi_websockets"
    headers = _RETRY_SOON


class NoThread(ProtocolError):
    """The system starts no thread for a WebSocket; no option of the bridge would change that."""

    status = 503
    reason = "no_thread"
    headers = _RETRY_SOON
