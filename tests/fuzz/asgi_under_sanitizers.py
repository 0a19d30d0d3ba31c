"""HTTP exchanges of ASGI for `tests.fuzz.fast_under_sanitizers`: applications that send and receive nearly right."""

from __future__ import annotations

import contextvars
import random
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from uwsgibridge.fast import Accelerator

MESSAGES: Final[tuple[Any, ...]] = (
    {"type": "http.response.start", "status": 200},
    {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]},
    {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]},
    {"type": "http.response.start", "status": 204, "headers": ((b"X-A", b"\r"),)},
    {"type": "http.response.start", "status": "200", "headers": None},
    {"type": "http.response.start", "status": 200, "headers": [None, (b"a",)]},
    {"type": "http.response.body"},
    {"type": "http.response.body", "body": b"12345", "more_body": False},
    {"type": "http.response.body", "body": bytes(65_536)},
    {"type": "http.response.body", "body": bytearray(3), "more_body": True},
    {"type": "http.response.body", "body": b"12345", "more_body": 1},
    {"type": None},
    {},
    None,
)  # fmt: skip


def make_exchange_type(accelerator: Accelerator) -> type:
    """Make what stands for `HttpExchange`, whose methods do nothing."""

    async def receive(_self: Any) -> object:
        return "of Python"

    async def send(_self: Any, _message: object) -> object:
        return "of Python"

    async def send_rest(_self: Any, _message: object, body: bytes, sent: int) -> object:
        assert 0 < sent < len(body) + 200
        return "the rest"

    methods = {
        "receive": receive,
        "send": send,
        "_send_rest": send_rest,
        "_scope": lambda _self: {"type": "of Python"},
        "_end_complete": lambda _self: None,
        "_check_answer": lambda _self: None,
        "_log_answer": lambda _self: None,
    }
    return type("Exchange", (accelerator.HttpFields,), methods)


class AsgiFeeder:
    """Has applications answer requests.

    Args:
        accelerator: what is watched.
        chance: decides what they do.
        connection_type: derived from the accelerator's fields.
        listening: a unix socket that listens.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        chance: random.Random,
        connection_type: type,
        listening: socket.socket,
    ) -> None:
        self._accelerator = accelerator
        self._chance = chance
        self._connection_type = connection_type
        self._listening = listening
        self._exchange_type = make_exchange_type(accelerator)
        self._line = accelerator.SentLine(
            ("REQUEST_ID",),
            lambda _request: "made",
            SimpleNamespace(are_kept=False),
            lambda: "now",
            None,
            lambda _line: None,
            lambda *_told: None,
        )

    def feed(self, variables: dict[str, str]) -> None:
        """Answer one request with these vars."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(self._listening.getsockname())
            connection = self._connection_type()
            connection._socket = self._accelerator.accept(self._listening.fileno(), socket.AF_UNIX)
            connection.request = SimpleNamespace(vars=variables)
            connection._seen_body = self._chance.choice((b"", b"body"))
            exchange = self._exchange_type(self._context(connection), connection)
            awaited = exchange._call_application()
            self._step(lambda: self._first(awaited))
            if self._chance.randrange(2):
                exchange._response  # noqa: B018 - it is made of what was sent
            exchange._return_plainly()
            connection._socket.close()

    def _first(self, coroutine: Coroutine[Any, Any, None]) -> object:
        first = self._accelerator.FirstStep(coroutine, contextvars.Context(), lambda: None)
        return first.send(None)  # type: ignore[attr-defined]

    def _context(self, connection: object) -> SimpleNamespace:
        from uwsgibridge.application import forked_child
        from uwsgibridge.hosts.admission import Admission
        from uwsgibridge.protocol import request, response_headers

        admission: Admission[object] = Admission(2, 1, lambda: None)
        admission.in_flight.add(connection)
        chance = self._chance
        states = {
            name: name for name in ("running", "ended", "over", "arriving", "whole", "no_stream")
        }
        plan = self._accelerator.HttpPlan(
            **states,
            not_cancelled="not_cancelled",
            app=self._application,
            state={"a": "b"},
            resume_response=lambda *arguments: arguments,
            tls_extension=lambda _variables: {},
            close=lambda _connection: None,
            release=lambda _connection: None,
            given_up=set(),
            websockets={},
            free_slots=[],
            in_flight=admission.in_flight,
            admission=admission,
            recorder=self._accelerator.Recorder(memoryview(bytearray(1024)).cast("Q"), (1.0,)),
            forked_child=vars(forked_child),
            kinds=response_headers.known_kinds,
            stream_kinds=response_headers.known_stream_kinds,
            status_lines={200: b"200 OK", 204: b"204 No Content"},
            header_names=request.header_names,
            http_versions=request.HTTP_VERSIONS,
            asgi=request.ASGI_VERSIONS,
            frontend_buffer_bytes=chance.choice((10, 4096)),
            is_used=bool(chance.randrange(8)),
            may_offload=not chance.randrange(8),
            logs_access=bool(chance.randrange(2)),
            id_header=chance.choice((None, b"X-Request-ID")),
            log_sent=chance.choice((None, lambda *_told: None, self._line)),
        )
        return SimpleNamespace(plan=plan)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        chance = self._chance
        assert scope["type"]
        for _ in range(chance.randrange(5)):
            made = receive() if not chance.randrange(3) else send(chance.choice(MESSAGES))
            self._use(made)
        self._use(send(MESSAGES[chance.randrange(3)]))
        self._use(send(MESSAGES[chance.randrange(6, 9)]))

    def _use(self, made: Any) -> None:
        """Use an awaitable, rightly and wrongly."""
        uses: tuple[Callable[[], object], ...] = (
            lambda: made.send(None),
            lambda: made.send(None),
            lambda: next(made),
            lambda: made.throw(ValueError),
            lambda: made.send(1),
            made.close,
        )
        for _ in range(self._chance.choice((1, 1, 2))):
            self._step(self._chance.choice(uses))
        made.close()

    def _step(self, use: Callable[[], object]) -> None:
        with suppress(StopIteration, RuntimeError, ValueError, TypeError):
            use()
