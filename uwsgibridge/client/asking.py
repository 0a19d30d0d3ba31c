"""Sends a request, and gives the answer."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from http import HTTPStatus
from typing import IO, Final

from uwsgibridge.client.answer import Response, StreamedResponse, read_body, read_head
from uwsgibridge.client.dialing import Address, Deadline
from uwsgibridge.client.errors import RequestError
from uwsgibridge.client.exchange import CHUNK_BYTES, Exchange, measured
from uwsgibridge.client.probing import refuse_http_server
from uwsgibridge.client.routing import route_to
from uwsgibridge.client.tls import Tls
from uwsgibridge.client.vars import Headers, build_vars
from uwsgibridge.protocol.packet import MODIFIER_REQUEST, encode_packet

DEFAULT_REQUEST_TIMEOUT_SECONDS: Final = 60.0


def request(
    address: Address,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Headers = (),
    body: bytes | IO[bytes] = b"",
    vars: Mapping[str, str | None] | None = None,  # noqa: A002 - the protocol's word for them
    modifier1: int = MODIFIER_REQUEST,
    tls: Tls | bool = False,
    timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
) -> Response:
    """Send one request and wait for the whole answer.

    The body of the answer is kept in memory; `stream` is for large bodies. Arguments and errors are those of
    `stream`.
    """
    with stream(
        address,
        path,
        method=method,
        headers=headers,
        body=body,
        vars=vars,
        modifier1=modifier1,
        tls=tls,
        timeout_seconds=timeout_seconds,
    ) as answer:
        return Response(
            status=answer.status,
            reason=answer.reason,
            headers=answer.headers,
            head=answer.head,
            body=b"".join(answer.chunks),
        )


@contextmanager
def stream(
    address: Address,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Headers = (),
    body: bytes | IO[bytes] = b"",
    vars: Mapping[str, str | None] | None = None,  # noqa: A002 - the protocol's word for them
    modifier1: int = MODIFIER_REQUEST,
    tls: Tls | bool = False,
    timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
) -> Iterator[StreamedResponse]:
    """Send one request, and give the answer as soon as its head has arrived.

    The connection is closed at the end of the context, whether or not the body was read. The request's body is sent
    while the answer is read, so that an application may answer while it reads.

    A server that answers 400, or is silent for a second, may be an HTTP server. A ping on a second connection tells
    that.

    Args:
        address: text such as ``127.0.0.1:3031`` or ``unix:/run/app.sock``, or a parsed address.
        path: the request target, percent-encoded, with its query string. Characters beyond ASCII are sent as
            UTF-8. Nothing is normalised: ``//`` and ``..`` stay.
        method: sent as it is.
        headers: sent as ``HTTP_*`` vars, in latin-1. Repeated ones are joined, as nginx 1.23 and later do.
            ``Host: localhost`` is added where there is no Host, and Content-Length for a body.
        body: ``b""`` is no body. A file is read from its present position, and stays open. A file that can't
            seek is first copied, since uwsgi needs the length in advance.
        vars: these replace or extend the vars that Nginx's ``uwsgi_params`` would send; None removes one.
        modifier1: 0, or 30 to have SCRIPT_NAME removed from the beginning of PATH_INFO.
        tls: True speaks TLS, as to a bridge with ``--bind-tls-certificate``; a `Tls` says whom to trust.
        timeout_seconds: the limit for everything from connecting to the last byte of the answer, however
            steadily bytes arrive. It does not include the look-up of a host name.

    Yields:
        The answer's head, with the body as an iterator.

    Raises:
        TruncatedAnswerError: the connection ended inside the head, before Content-Length bytes,
            or with a reset.
        RequestError: there is no connection or no answer in time, the answer is not HTTP, the server speaks
            HTTP and not uwsgi, or `body` can't be read.
        ValueError: the address (as `AddressError`), the timeout or a file of `tls` is not valid, or the vars do
            not fit into the 65,535 bytes of a packet.
    """
    route = route_to(address, tls)
    with measured(body) as (source, body_bytes):
        packet = encode_packet(
            build_vars(path, method, headers, body_bytes, vars or {}), modifier1=modifier1
        )
        deadline = Deadline(timeout_seconds)
        with (
            route.connect(deadline, RequestError) as connection,
            closing(
                Exchange(route.transport(connection), packet, source, body_bytes or 0, deadline)
            ) as exchange,
        ):
            exchange.when_silent = partial(refuse_http_server, route, deadline)
            reader = io.BufferedReader(exchange, CHUNK_BYTES)
            parsed, head = read_head(reader, route, method, deadline)
            if parsed.status == HTTPStatus.BAD_REQUEST:
                refuse_http_server(route, deadline)
            yield StreamedResponse(
                status=parsed.status,
                reason=parsed.reason,
                headers=parsed.getheaders(),
                head=head,
                chunks=read_body(reader, parsed.length, route, deadline),
            )
