"""The fields of an HTTP exchange: of a class of the accelerator where it is in use, else of a class of Python.

The accelerator reads and writes the fields of its class without a call. So `HttpExchange` is the same class for both.
"""

from __future__ import annotations

from collections.abc import Awaitable
from time import monotonic
from typing import TYPE_CHECKING, Any

from uwsgibridge import fast
from uwsgibridge.hosts.asgi.http_states import Input, Stream
from uwsgibridge.hosts.exchange_states import Life
from uwsgibridge.protocol.response import Response

if TYPE_CHECKING:
    from uwsgibridge.connection.connection import Connection
    from uwsgibridge.hosts.asgi.exchange import AsgiContext
    from uwsgibridge.loop.interface import Event, Task


class PythonHttpFields:
    """The fields, with their defaults on the class: an exchange that never changes them pays nothing for them.

    Args:
        context: shared by the exchanges of the host.
        connection: the connection with its request.
    """

    _input = Input.ARRIVING
    _stream = Stream.NONE
    _disconnected: Event | None = None  # made when the application waits for the disconnect
    _body_wait: Event | None = None  # set while a task of the application waits for the body
    _timer: Task | None = None
    _end_timer: Task | None = None
    _answer_began = 0.0

    def __init__(self, context: AsgiContext, connection: Connection) -> None:
        self._life = Life.RUNNING
        self.connection = connection
        self.request = connection.request
        self._context = context
        self._response = Response(connection.request.method)
        self._started_at = monotonic()

    def _call_application(self) -> Awaitable[object]:
        """Call the application; give what is to be awaited."""
        own: Any = self
        return self._context.app(own._scope(), own.receive, own.send)  # noqa: SLF001


if TYPE_CHECKING:
    HttpFields = PythonHttpFields
else:
    # Not by the name that tests replace: the class stays as it is, and the plan says who works.
    HttpFields = PythonHttpFields if fast.accelerator is None else fast.accelerator.HttpFields
