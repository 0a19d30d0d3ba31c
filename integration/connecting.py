"""A connection to the bridge itself, without an Nginx between."""

from __future__ import annotations

import socket

_PATIENCE_SECONDS = 20


def connect(address: str) -> socket.socket:
    """Connect to an address as the bridge writes it; the caller closes the connection."""
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_PATIENCE_SECONDS)
        try:
            connection.connect(address.removeprefix("unix:"))
        except BaseException:
            connection.close()
            raise
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=_PATIENCE_SECONDS)
