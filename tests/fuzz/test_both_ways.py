"""The accelerator and Python alone give the same for whatever arrives, and for whatever an application answers."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.test_packet import any_input, latin_1, limits_that_bite, modifiers, vars_of_a_packet
from tests.fuzz.test_response import bad_headers, headers, statuses
from tests.log_events import PATIENCE_SECONDS
from tests.plain_vars import VARS
from tests.ways import go, python_alone
from uwsgibridge.connection import connection as connection_module
from uwsgibridge.connection.connection import Connection, accept
from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.files import begin_file
from uwsgibridge.hosts.wsgi.exchange import WsgiExchange, _encode_headers
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.protocol.errors import InvalidResponse, ProtocolError
from uwsgibridge.protocol.packet import MODIFIER_PING, PacketLimits, encode_packet, parse_packet
from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.response import Response
from uwsgibridge.protocol.sent import SENT_VAR, seconds_since_sent
from uwsgibridge.protocol.status import status_line
from uwsgibridge.telemetry.counters import Counters

Outcome: TypeAlias = object

# What Nginx sends with its uwsgi_params, so that the plain case is frequent.
PLAIN = {**VARS, "DOCUMENT_ROOT": "/srv"}
nearly_plain = st.builds(
    lambda server, changed: {**PLAIN, **server, **dict(changed)},
    st.sampled_from([{}, {"SERVER_NAME": ""}]),  # as with a server_name, and without one
    vars_of_a_packet,
)
incomplete = st.builds(
    lambda variables, missing: {name: it for name, it in variables.items() if name not in missing},
    nearly_plain,
    st.sets(st.sampled_from(sorted(PLAIN)), max_size=2),
)


@pytest.fixture(autouse=True, params=["accelerated"])
def both_ways(request):
    """Each test goes both ways by itself."""
    yield from go(request.param)


def same_both_ways(function: Callable[[], Outcome]) -> Outcome:
    """Call it with the accelerator and without; what it gave, or raised, each time."""
    accelerated = outcome_of(function)
    with python_alone():
        assert outcome_of(function) == accelerated
    return accelerated


def outcome_of(function: Callable[[], Outcome]) -> Outcome:
    try:
        return function()
    except (ProtocolError, InvalidResponse, OSError) as error:
        return type(error), str(error), vars(error).get("option"), vars(error).get("method")


def in_order(outcome: Any) -> Any:
    """Let the order of dicts count."""
    return [in_order(it) for it in outcome.items()] if isinstance(outcome, dict) else outcome


def request_of(data: bytes, limits: PacketLimits, max_body_bytes: int = 0) -> Outcome:
    packet = parse_packet(memoryview(data), limits)
    if packet is None:
        return None
    parsed = (packet.modifier1, in_order(packet.vars), packet.size_bytes, type(packet))
    request = Request(packet, max_body_bytes=max_body_bytes)
    scope = request.http_scope()
    return parsed, in_order(request.vars), request.content_length, in_order(scope), type(scope)


@given(any_input, limits_that_bite)
def test_any_input_gives_the_same_both_ways(data: bytes, limits: PacketLimits) -> None:
    same_both_ways(lambda: request_of(data, limits))


@given(st.lists(nearly_plain | incomplete, min_size=1, max_size=4), modifiers, st.integers(0, 9))
def test_requests_in_a_row_give_the_same_both_ways(
    requests: list[dict[str, str]], modifier1: int, max_body_bytes: int
) -> None:
    """What is kept of one packet is not taken for a part of the next one."""
    packets = [encode_packet(variables, modifier1=modifier1) for variables in requests]
    limits = PacketLimits()
    for data in packets:
        same_both_ways(lambda data=data: request_of(data, limits, max_body_bytes))  # type: ignore[misc]


class Host:
    """Takes what an intake, or Python in its place, makes of a connection."""

    def __init__(self) -> None:
        self.admission: Admission[Connection] = Admission(1, 0, lambda: None)
        self.outcome: Outcome = None

    def submit(self, connection: Connection) -> None:
        request = connection.request
        body = connection.pop_whole_body()
        unseen = connection.body_unseen
        self.outcome = (in_order(request.vars), request.content_length, body, unseen)
        if body is None:
            connection.force_close()
        else:
            assert connection.close()


def accepted(data: bytes, limits: PacketLimits, max_body_bytes: int) -> Outcome:
    """Accept a connection with these bytes; what the host got, or what was refused."""
    host, flights = Host(), FlightRecorder()

    def take(connection: Connection, received: int | None) -> None:
        try:
            modifier1 = connection.receive_packet(flights.scratch, limits, max_body_bytes, received)
            if modifier1 is None:
                host.outcome = "no whole packet"
            elif modifier1 == MODIFIER_PING:
                host.outcome = "ping"
            else:
                host.submit(connection)
        except (ProtocolError, PeerGone) as error:
            host.outcome = type(error), str(error)
        connection.force_close()

    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as peer:
        listening.bind("")
        listening.listen()
        listening.setblocking(False)
        peer.connect(listening.getsockname())
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        accelerator = getattr(connection_module, "accelerator", None)
        if accelerator is None:
            kind = int(listening.type) | socket.SOCK_NONBLOCK
            take(Connection(accept(listening, socket.AF_UNIX, kind), is_unix=True), None)
        else:
            intake = accelerator.Intake(
                connection_type=Connection,
                request_type=Request,
                family=int(socket.AF_UNIX),
                keeps_input=True,
                max_vars_bytes=limits.max_vars_bytes,
                max_vars=limits.max_vars,
                max_body_bytes=max_body_bytes,
                max_requests=0,
                flights=flights,
                arrived=Counters().own.cell,
                host=host,
                select=lambda _request: None,
                take=take,
                listening=listening.fileno(),
                file_prefixes=(),
                looks=True,
                admits=None,
            )
            assert intake.accept(listening.fileno(), 1, 0) == 1
        peer.settimeout(PATIENCE_SECONDS)
        try:
            seen: object = peer.recv(1)
        except ConnectionResetError:  # the close left input in the kernel
            seen = "reset"
    return host.outcome, seen


@given(
    any_input | st.builds(encode_packet, nearly_plain),
    limits_that_bite,
    st.integers(0, 9),
    st.binary(max_size=9) | st.sampled_from([bytes(8_000), bytes(60_000), bytes(70_000)]),
)
def test_accepting_gives_the_same_both_ways(
    data: bytes, limits: PacketLimits, max_body_bytes: int, body: bytes
) -> None:
    same_both_ways(lambda: accepted(data + body, limits, max_body_bytes))


@given(
    st.integers(0, 100_000),
    st.integers(0, 100_000) | st.sampled_from([8_192, 65_539]),
    st.integers(0, 12_000),
)
def test_accepting_uploads_gives_the_same_both_ways(
    length: int, arrived: int, cookie_bytes: int
) -> None:
    variables = {**PLAIN, "CONTENT_LENGTH": str(length), "HTTP_COOKIE": "x" * cookie_bytes}
    data = encode_packet(variables) + bytes(min(arrived, length))
    same_both_ways(lambda: accepted(data, PacketLimits(), 0))


ages = st.floats(-2, 2) | st.floats(86_399, 86_401)
moments = latin_1 | st.from_regex(r"[0-9]{1,13}[.,]?[0-9]{2,4}", fullmatch=True)


@given(st.floats(1e9, 3e9), moments | ages)
def test_the_age_of_a_request_is_the_same_both_ways(now: float, sent: str | float) -> None:
    text = sent if isinstance(sent, str) else f"{now - sent:.3f}"
    same_both_ways(lambda: seconds_since_sent({SENT_VAR: text}, now))


@given(nearly_plain, st.data())
def test_cut_packets_give_the_same_both_ways(
    variables: dict[str, str], data: st.DataObject
) -> None:
    whole = encode_packet(variables)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    same_both_ways(lambda: request_of(cut, PacketLimits()))


def head_of(status: int, given: Any) -> Outcome:
    response = Response("GET")
    response.start(status, status_line(status), given)
    return b"".join(bytes(it) for it in response.send(b"body")), response.is_event_stream


@given(statuses, headers | bad_headers, st.sampled_from([list, tuple, iter]))
def test_heads_are_the_same_both_ways(
    status: int, given_headers: Any, container: Callable[[Any], Any]
) -> None:
    # Twice: what is new to the memos the first time is remembered the second time.
    for _ in range(2):
        same_both_ways(lambda: head_of(status, container(given_headers)))


odd_items = st.one_of(
    st.tuples(st.binary(max_size=3), st.text(max_size=3)),
    st.tuples(st.just(b"X-A")),
    st.lists(st.just(b"X-A"), max_size=3),
    st.tuples(st.just(b"X-A"), st.none()),
    st.tuples(st.just(b"X-A"), st.just(bytearray(b"x"))),
    st.none(),
    st.just("ab"),
)


@given(statuses, st.lists(odd_items | st.just((b"X-A", b"1")), max_size=4))
def test_what_is_no_header(status: int, given_headers: Any) -> None:
    same_both_ways(lambda: head_of(status, given_headers))


@given(nearly_plain | incomplete)
def test_environs_are_the_same_both_ways(variables: dict[str, str]) -> None:
    packet = parse_packet(memoryview(encode_packet(variables)), PacketLimits())
    assert packet is not None
    try:
        request = Request(packet)
    except ProtocolError:
        return
    same_both_ways(lambda: in_order(environ_of(request)))


def environ_of(request: Request) -> dict[str, Any]:
    """Only what it takes of its exchange is there."""
    exchange = SimpleNamespace(
        _context=SimpleNamespace(base_environ={"wsgi.version": (1, 0), "wsgi.run_once": False}),
        request=request,
        connection=SimpleNamespace(pop_whole_body=lambda: b""),
    )
    environ = WsgiExchange._environ(cast("WsgiExchange", exchange))
    assert environ.pop("wsgi.input").read() == b""
    return environ


texts = st.text(latin_1, max_size=8)
odd_texts = texts | st.text(max_size=4) | st.binary(max_size=2) | st.none()


@given(st.lists(st.tuples(texts, texts) | st.tuples(odd_texts, odd_texts) | odd_items, max_size=5))
def test_headers_of_wsgi_are_the_same_both_ways(given_headers: Any) -> None:
    same_both_ways(lambda: _encode_headers(given_headers))


@given(
    st.integers(0, 40_000) | st.sampled_from([16_383, 16_384, 16_385]),
    st.integers(-1, 40_000) | st.sampled_from([16_384, (1 << 63) - 1]),
)
def test_files_begin_the_same_both_ways(size: int, offset: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(256)) * (size // 256 + 1))
        file.truncate(size)
        same_both_ways(lambda: begin_file(file.fileno(), offset))
