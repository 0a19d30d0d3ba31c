"""Why a WSGI host refuses the handshake of a WebSocket."""

from __future__ import annotations

from typing import Final

from uwsgibridge.protocol.errors import ProtocolError
from uwsgibridge.protocol.websocket import HandshakeRefused

_OPTION: Final = "--wsgi-websockets"

# The next worker or another server may have room at once.
_RETRY_SOON: Final = ((b"Retry-After", b"1"),)


class NoWebSockets(HandshakeRefused):
    """WSGI has no WebSockets, and the option that brings them is not set."""

    reason = "wsgi_without_websockets"

    def __init__(self) -> None:
        super().__init__(
            f"this application is WSGI, which has no WebSockets without {_OPTION}", option=_OPTION
        )


class TooManyWebSockets(ProtocolError):
    """A WSGI application has as many WebSockets as its option allows.

    Args:
        count: how many there are.
    """

    status = 503
    reason = "wsgi_websockets"
    headers = _RETRY_SOON

    def __init__(self, count: int) -> None:
        super().__init__(
            f"there are {count} WebSockets of this WSGI application, and no more may be ({_OPTION})",
            option=_OPTION,
        )


class NoThread(ProtocolError):
    """The system starts no thread for a WebSocket; no option of the bridge would change that.

    Args:
        error: what Python says.
    """

    status = 503
    reason = "no_thread"
    headers = _RETRY_SOON

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(
            f"the system gives no thread for a WebSocket of this WSGI application: {error}"
        )
