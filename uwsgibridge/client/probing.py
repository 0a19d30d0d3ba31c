"""Asks a server whether it speaks uwsgi."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress
from typing import Final

from uwsgibridge.client.dialing import Address, Deadline
from uwsgibridge.client.errors import ClientError, PingError, RequestError, describe
from uwsgibridge.client.route import Route
from uwsgibridge.client.routing import route_to
from uwsgibridge.client.tls import Tls
from uwsgibridge.protocol.packet import PING, PONG

DEFAULT_PING_TIMEOUT_SECONDS: Final = 5.0

# How long to wait for an answer. A uwsgi server answers a ping in some milliseconds, and an HTTP server answers
# the end of a line.
_PROBE_SECONDS: Final = 0.5
# How many bytes of the answer are looked at.
_PROBE_BYTES: Final = 64 * 1024
# ``<`` begins the page that an HTTP server sends, without a head, after a line that names no version (HTTP/0.9).
_BEGINNINGS_OF_HTTP: Final = (b"HTTP", b"<")


def ping(
    address: Address,
    *,
    tls: Tls | bool = False,
    timeout_seconds: float = DEFAULT_PING_TIMEOUT_SECONDS,
) -> float:
    """Ask whether a uwsgi server answers at `address`.

    Args:
        address: text such as ``127.0.0.1:3031`` or ``unix:/run/app.sock``, or a parsed address.
        tls: True speaks TLS, as to a bridge with ``--bind-tls-certificate``; a `Tls` says whom to trust.
        timeout_seconds: the limit for connecting, the TLS handshake and the answer together. It does not include
            the look-up of a host name, for which the resolver has its own limits.

    Returns:
        The seconds from connecting to the answer.

    Raises:
        PingError: nobody listens there, something else does, or no answer came in time.
        ValueError: the address (as `AddressError`), the timeout or a file of `tls` is not valid.
    """
    route = route_to(address, tls)
    deadline = Deadline(timeout_seconds)
    started = time.perf_counter()
    answer = b""
    with route.connect(deadline, PingError) as connection:
        try:
            connection.settimeout(deadline.remaining_seconds())
            _send_ping(connection)
            while len(answer) < len(PONG):
                connection.settimeout(deadline.remaining_seconds())
                piece = connection.recv(len(PONG) - len(answer))
                if not piece:
                    break
                answer += piece
        except TimeoutError as error:
            raise PingError(
                f"{route} took the connection and gave no answer within {timeout_seconds:g} s: "
                f"the server there is stuck, or it does not speak uwsgi{route.hint}"
            ) from error
        except OSError as error:
            raise PingError(
                route.explain_error(error)
                or f"{route} broke the connection ({describe(error)}): "
                f"check that the address is one of the bridge's --bind addresses{route.hint}"
            ) from error
    elapsed_seconds = time.perf_counter() - started
    if answer == PONG:
        return elapsed_seconds
    if answer == b"HTTP":
        raise PingError(_http_server_at(route))
    if words := route.explain_answer(answer):
        raise PingError(words)
    said = f"answered {answer!r}" if answer else "closed the connection"
    raise PingError(
        f"{route} {said} where a uwsgi server answers a ping: something else listens there; "
        f"name an address that the bridge is bound to (--bind){'' if answer else route.hint}"
    )


def refuse_http_server(route: Route, deadline: Deadline) -> None:
    """Ask on a second connection whether the server speaks HTTP.

    Raises:
        RequestError: it speaks HTTP.
    """
    answer = b""
    with ExitStack() as stack:
        stack.enter_context(suppress(OSError, ClientError))
        # A busy server of one thread may take this connection, and its handshake, only after the request.
        patience = Deadline(min(_PROBE_SECONDS, deadline.remaining_seconds()))
        connection = stack.enter_context(route.connect(patience, RequestError))
        # A ping has no line end, for which a server that reads lines waits. A uwsgi server reads only the ping.
        for piece in (PING, b"\r\n\r\n"):
            connection.settimeout(min(_PROBE_SECONDS, deadline.remaining_seconds()))
            connection.sendall(piece)
            with suppress(TimeoutError):
                answer = connection.recv(_PROBE_BYTES)
                break
    if answer.startswith(_BEGINNINGS_OF_HTTP):
        raise RequestError(_http_server_at(route))


def _send_ping(connection: socket.socket) -> None:
    try:
        connection.sendall(PING)
    except TimeoutError:
        raise
    except OSError:
        # The server has closed. What it said before, such as the alert that refuses a certificate, is there to read.
        pass


def _http_server_at(route: Route) -> str:
    return (
        f"An HTTP server answers at {route}: "
        "name an address that the bridge is bound to (--bind), not Nginx's"
    )
