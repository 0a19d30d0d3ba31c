"""What a request for a WebSocket looks like, for hosts that do not speak the protocol.

`protocol.websocket` needs far more to be imported, and most workers never see a WebSocket.
"""

from __future__ import annotations

from collections.abc import Mapping

from uwsgibridge.protocol.errors import ProtocolError


class HandshakeRefused(ProtocolError):
    """The request asks for a WebSocket in a way that RFC 6455, section 4.2.1, does not allow."""

    reason = "websocket_handshake"


def wants_websocket(variables: Mapping[str, str]) -> bool:
    """Whether a request asks for a WebSocket.

    Args:
        variables: the vars of the request.
    """
    return variables.get("HTTP_UPGRADE", "").lower() == "websocket"
