"""A uwsgi client: asks a uwsgi port what Nginx would ask it.

The client is for health checks, for a look at an application without a frontend, and for tests. It is synchronous, and
uses the sockets of the standard library. One connection carries one request. It is never half-closed, since a uwsgi
server may take that for a client that left.
"""

from uwsgibridge.client.answer import Response, ResponseHead, StreamedResponse
from uwsgibridge.client.asking import DEFAULT_REQUEST_TIMEOUT_SECONDS, request, stream
from uwsgibridge.client.dialing import Address
from uwsgibridge.client.errors import ClientError, PingError, RequestError, TruncatedAnswerError
from uwsgibridge.client.probing import DEFAULT_PING_TIMEOUT_SECONDS, ping
from uwsgibridge.client.tls import Tls
from uwsgibridge.client.vars import Headers

__all__ = [
    "DEFAULT_PING_TIMEOUT_SECONDS",
    "DEFAULT_REQUEST_TIMEOUT_SECONDS",
    "Address",
    "ClientError",
    "Headers",
    "PingError",
    "RequestError",
    "Response",
    "ResponseHead",
    "StreamedResponse",
    "Tls",
    "TruncatedAnswerError",
    "ping",
    "request",
    "stream",
]
