"""The way to a server: its address, and how it is spoken to; here without TLS."""

from __future__ import annotations

import socket

from uwsgibridge.client.dialing import Deadline, Target, connect
from uwsgibridge.client.errors import ClientError
from uwsgibridge.client.transport import Transport

# The type of the record of an alert, and the version that each version of TLS says there (RFC 8446, section 5.1).
_BEGINNING_OF_AN_ALERT = b"\x15\x03"


class Route:
    """The way to a server that is spoken to without TLS.

    Attributes:
        target: the address.
        hint: what to add to a sentence about a server that has closed the connection.
    """

    hint = "; where it speaks TLS (it was started with --bind-tls-certificate), give --tls"

    def __init__(self, target: Target) -> None:
        self.target = target

    def __str__(self) -> str:
        return str(self.target)

    def connect(self, deadline: Deadline, failure: type[ClientError]) -> socket.socket:
        """Connect, ready to send.

        Raises:
            ClientError: of the type `failure`; there is no connection within the deadline.
        """
        return connect(self.target, deadline, failure)

    def transport(self, connection: socket.socket) -> Transport:
        """Give what sends and receives on a connection that `connect` has made."""
        return Transport(connection)

    def explain_error(self, error: OSError) -> str:
        """Give the sentence for an error of a connection that `connect` has made, or nothing where TLS is not to blame."""
        del error
        return ""

    def explain_answer(self, answer: bytes) -> str:
        """Give the sentence for what a server says that speaks another kind of TLS, or none; else nothing."""
        if answer.startswith(_BEGINNING_OF_AN_ALERT):
            return f"{self} speaks TLS: give --tls, or --tls-ca FILE to verify its certificate"
        return ""
