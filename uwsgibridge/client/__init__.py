"""A uwsgi client: asks a uwsgi port what Nginx would ask it.

For health checks, for looking at an application without a frontend, and for tests. It is
synchronous and stands on stdlib sockets. One connection carries one request; it is never
half-closed, since a uwsgi server may take that for a client that went away.
"""

from uwsgibridge.client.answer import Response, ResponseHead, StreamedResponse
from uwsgibridge.client.asking import DEFAULT_REQUEST_TIMEOUT_SECONDS, request, stream
from uwsgibridge.client.dialing import Address
from uwsgibridge.client.errors import ClientError, PingError, RequestError, TruncatedAnswerError
from uwsgibridge.client.probing import DEFAULT_PING_TIMEOUT_SECONDS, ping
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
    "TruncatedAnswerError",
    "ping",
    "request",
    "stream",
]
