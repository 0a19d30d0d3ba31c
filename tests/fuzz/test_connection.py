"""A connection fed in any pieces, over both kinds of socket.

The body arrives exactly, and the peer sees a clean end after `close`, a reset after `abort`.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from uwsgibridge.connection.connection import SCRATCH_BYTES, Connection, accept
from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.protocol.errors import MalformedPacket
from uwsgibridge.protocol.packet import MODIFIER_PING, PING, PONG, PacketLimits, encode_packet

PATIENCE_MILLISECONDS = 20_000
LIMITS = PacketLimits()
ANSWER = b"HTTP/1.1 200 OK\r\n\r\nanswer"
# Bytes that no two places of a body have alike, or a shift would go unseen.
PATTERN = b"".join(struct.pack(">I", number) for number in range(40_000))
# SO_LINGER 0: no connection of thousands is left waiting for its twin.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# A pair of sockets takes longer than a parser.
fewer_examples = settings(max_examples=settings().max_examples // 4)

SCRATCH = memoryview(bytearray(SCRATCH_BYTES))


@dataclass(frozen=True)
class Ends:
    """Makes connected pairs: the frontend's end, and the bridge's."""

    is_unix: bool
    listening: socket.socket

    def connect(self) -> tuple[socket.socket, Connection]:
        peer = socket.socket(self.listening.family)
        peer.connect(self.listening.getsockname())
        family, kind = int(self.listening.family), int(self.listening.type)
        accepted = accept(self.listening, family, kind | socket.SOCK_NONBLOCK)
        peer.setblocking(False)
        if not self.is_unix:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        return peer, Connection(accepted, is_unix=self.is_unix)


@pytest.fixture(scope="module", params=["unix", "tcp"])
def ends(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ends]:
    is_unix = request.param == "unix"
    with socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET) as listening:
        path = str(tmp_path_factory.mktemp("s") / "s")
        listening.bind(path if is_unix else ("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        yield Ends(is_unix, listening)


def wait(descriptor: int, event_mask: int) -> None:
    poll = select.poll()
    poll.register(descriptor, event_mask)
    assert poll.poll(PATIENCE_MILLISECONDS), "nothing happened within the deadline"


def read_to_the_end(peer: socket.socket) -> tuple[bytes, bool]:
    """What the peer reads, and whether it then saw a clean end (or a reset)."""
    received = b""
    while True:
        wait(peer.fileno(), select.POLLIN)
        try:
            piece = peer.recv(65_536)
        except ConnectionResetError:
            return received, False
        if not piece:
            return received, True
        received += piece


@dataclass
class Exchange:
    """The peer's bytes on their way through a connection."""

    peer: socket.socket
    connection: Connection
    outgoing: bytes
    read_sizes: Iterator[int]
    stop_after_bytes: int | None = None
    modifier1: int | None = None
    body: bytearray = field(default_factory=bytearray)

    def send_some(self, count: int) -> None:
        """Send so many bytes, reading where the kernel is full."""
        while count:
            try:
                sent = self.peer.send(self.outgoing[:count])
            except BlockingIOError:
                self.read_all_that_is_there()
                if self.has_stopped:
                    return
            else:
                count -= sent
                self.outgoing = self.outgoing[sent:]

    @property
    def has_stopped(self) -> bool:
        """Whether the application is to read no more."""
        return self.stop_after_bytes is not None and len(self.body) >= self.stop_after_bytes

    @property
    def is_over(self) -> bool:
        return self.modifier1 is not None and self.connection.body_over

    def read_all_that_is_there(self) -> None:
        with suppress(BlockingIOError):
            while not self.is_over and not (self.modifier1 is not None and self.has_stopped):
                self.read_once()

    def read_to_the_end(self) -> None:
        while not self.is_over and not (self.modifier1 is not None and self.has_stopped):
            try:
                self.read_once()
            except BlockingIOError:
                wait(self.connection.fileno(), select.POLLIN)

    def read_once(self) -> None:
        if self.modifier1 is None:
            self.modifier1 = self.connection.receive_packet(SCRATCH, LIMITS, 0)
        else:
            most = next(self.read_sizes)
            chunk = self.connection.receive_body(most)
            assert 0 < len(chunk) <= most
            self.body += chunk


@dataclass(frozen=True)
class Plan:
    """What is sent in which pieces, and read by how much."""

    variables: dict[str, str]
    body: bytes
    cuts: list[int]
    reads_after_each_piece: bool
    read_sizes: list[int]
    stop_after_bytes: int | None

    @property
    def data(self) -> bytes:
        return encode_packet(self.variables) + self.body

    def begin(self, peer: socket.socket, connection: Connection) -> Exchange:
        sizes = itertools.cycle(self.read_sizes)
        return Exchange(peer, connection, self.data, sizes, self.stop_after_bytes)

    def run(self, exchange: Exchange) -> None:
        data_bytes = len(self.data)
        for start, end in itertools.pairwise([0, *self.cuts, data_bytes]):
            exchange.send_some(end - start)
            if self.reads_after_each_piece:
                exchange.read_all_that_is_there()
        exchange.read_to_the_end()


body_sizes = st.integers(0, 200) | st.sampled_from([4096, 65_534, 65_535, 65_536, 65_537, 150_000])
paddings = st.sampled_from([0, 0, 0, 1, 4000, 65_400])


@st.composite
def plans(draw: st.DrawFn, *, may_stop: bool = False) -> Plan:
    size = draw(body_sizes)
    variables = {"PATH_INFO": "/x", "HTTP_X": "y" * draw(paddings), "CONTENT_LENGTH": str(size)}
    packet_bytes = len(encode_packet(variables))
    # Near the borders, where it is decided what is whole.
    border = st.sampled_from([0, 4, packet_bytes, packet_bytes + size])
    places = st.builds(lambda at, by: at + by, border, st.integers(-3, 3)) | st.integers(
        0, packet_bytes + size
    )
    cuts = draw(st.lists(places, max_size=6))
    return Plan(
        variables=variables,
        body=PATTERN[:size],
        cuts=sorted({cut for cut in cuts if 0 < cut < packet_bytes + size}),
        reads_after_each_piece=draw(st.booleans()),
        read_sizes=draw(
            st.lists(
                st.integers(1 + size // 50, 300 + size) | st.sampled_from([65_535, 65_536]),
                min_size=1,
                max_size=4,
            )
        ),
        stop_after_bytes=draw(st.none() | st.integers(0, size)) if may_stop else None,
    )


@fewer_examples
@given(plan=plans())
def test_the_body_arrives_exactly_and_a_close_is_clean(ends: Ends, plan: Plan) -> None:
    peer, connection = ends.connect()
    with peer, closing_connection(connection):
        exchange = plan.begin(peer, connection)
        plan.run(exchange)
        assert connection.request.vars["HTTP_X"] == plan.variables["HTTP_X"]
        assert connection.request.content_length == len(plan.body)
        assert bytes(exchange.body) == plan.body
        assert connection.receive_body() == b""  # and never anything else
        assert connection.body_unseen == 0
        assert connection.send(ANSWER) == len(ANSWER)
        assert connection.close()
        assert connection.closed
        assert read_to_the_end(peer) == (ANSWER, True)


@fewer_examples
@given(plan=plans())
def test_a_body_that_came_with_the_packet_is_taken_in_one(ends: Ends, plan: Plan) -> None:
    peer, connection = ends.connect()
    with peer, closing_connection(connection):
        exchange = plan.begin(peer, connection)
        exchange.stop_after_bytes = 0  # only the packet
        plan.run(exchange)
        body = connection.pop_whole_body()
        if body is None:
            assert connection.body_unseen
            exchange.stop_after_bytes = None
            exchange.send_some(len(exchange.outgoing))
            exchange.read_to_the_end()
            body = bytes(exchange.body)
        assert body == plan.body
        assert connection.body_over
        assert connection.pop_whole_body() == b""


@fewer_examples
@given(plan=plans(may_stop=True))
def test_a_close_with_the_body_unread_loses_no_answer(ends: Ends, plan: Plan) -> None:
    peer, connection = ends.connect()
    with peer, closing_connection(connection):
        exchange = plan.begin(peer, connection)
        plan.run(exchange)
        assert bytes(exchange.body) == plan.body[: len(exchange.body)]
        assert connection.send(ANSWER) == len(ANSWER)
        if connection.close():
            event("closed at once")
            assert not connection.body_unseen
            assert connection.closed
        else:
            event("lingered")
            assert connection.body_unseen
            assert not connection.closed
            connection.shutdown_write()
            discard_while_the_peer_sends(exchange)
        assert read_to_the_end(peer) == (ANSWER, True)


def discard_while_the_peer_sends(exchange: Exchange) -> None:
    """What the listener does with the input that nobody reads."""
    while exchange.outgoing:
        with suppress(BlockingIOError):
            sent = exchange.peer.send(exchange.outgoing)
            exchange.outgoing = exchange.outgoing[sent:]
        with suppress(BlockingIOError):
            assert not exchange.connection.discard_input()
    exchange.peer.shutdown(socket.SHUT_WR)
    while True:
        try:
            if exchange.connection.discard_input():
                break
        except BlockingIOError:
            wait(exchange.connection.fileno(), select.POLLIN)
    exchange.connection.force_close()
    assert exchange.connection.closed


@fewer_examples
@given(plan=plans(may_stop=True), has_begun=st.booleans())
def test_an_abort_is_seen_by_the_peer(ends: Ends, plan: Plan, has_begun: bool) -> None:
    peer, connection = ends.connect()
    with peer, closing_connection(connection):
        exchange = plan.begin(peer, connection)
        plan.run(exchange)
        if has_begun:
            assert connection.send(ANSWER) == len(ANSWER)
        if connection.abort():
            event("broken at once")
        else:
            event("broken later")
            # Nothing of the body was there whose loss would break it.
            assert ends.is_unix
            assert connection.body_unseen
            assert not connection.closed
            peer.send(b"more")
            wait(connection.fileno(), select.POLLIN)
            connection.force_close()
        assert connection.closed
        assert read_to_the_end(peer) == (ANSWER * has_begun, False)


@fewer_examples
@given(plan=plans(), later=st.binary(min_size=1, max_size=20_000))
def test_what_follows_the_body_is_never_a_second_request(
    ends: Ends, plan: Plan, later: bytes
) -> None:
    peer, connection = ends.connect()
    with peer, closing_connection(connection):
        exchange = plan.begin(peer, connection)
        behind = encode_packet({"PATH_INFO": "/second"}) + later
        if len(plan.data + behind) > SCRATCH_BYTES:
            behind = b""
        peer.sendall(plan.data[:SCRATCH_BYTES] + behind)
        exchange.outgoing = plan.data[SCRATCH_BYTES:]
        exchange.send_some(len(exchange.outgoing))
        exchange.read_to_the_end()
        assert connection.request.path == "/x"
        assert bytes(exchange.body) == plan.body
        assert connection.receive_body() == b""
        assert connection.send(ANSWER) == len(ANSWER)
        assert connection.close()
        assert read_to_the_end(peer) == (ANSWER, True)


@fewer_examples
@given(cut=st.integers(0, 4))
def test_a_ping_is_answered_and_ends_cleanly(ends: Ends, cut: int) -> None:
    peer, connection = ends.connect()
    with peer, closing_connection(connection):
        exchange = Exchange(peer, connection, PING, itertools.repeat(1))
        exchange.send_some(cut)
        exchange.read_all_that_is_there()
        exchange.send_some(4 - cut)
        exchange.read_to_the_end()
        assert exchange.modifier1 == MODIFIER_PING
        assert connection.send(PONG) == len(PONG)
        assert connection.close()
        assert read_to_the_end(peer) == (PONG, True)


@fewer_examples
@given(plan=plans(), data=st.data(), by_reset=st.booleans())
def test_a_peer_that_leaves_too_early(
    ends: Ends, plan: Plan, data: st.DataObject, by_reset: bool
) -> None:
    """Whether it closes, or the kernel resets because it left our answer unread."""
    whole = plan.data
    sent = data.draw(st.integers(0, len(whole) - 1))
    peer, connection = ends.connect()
    with peer, closing_connection(connection):
        exchange = plan.begin(peer, connection)
        exchange.send_some(sent)
        exchange.read_all_that_is_there()
        if by_reset:
            connection.send(ANSWER)
            wait(peer.fileno(), select.POLLIN)
            peer.close()
        else:
            peer.shutdown(socket.SHUT_WR)
        with pytest.raises(PeerGone):
            exchange.read_to_the_end()
        assert bytes(exchange.body) == plan.body[: len(exchange.body)]


@fewer_examples
@given(payload=st.binary(min_size=1, max_size=300), cuts=st.lists(st.integers(1, 300), max_size=4))
def test_what_is_refused_in_pieces_is_refused_once_whole(
    ends: Ends, payload: bytes, cuts: list[int]
) -> None:
    data = struct.pack("<BHB", 0, len(payload) + 2, 0) + payload + b"\xff\xff"
    peer, connection = ends.connect()
    with peer, closing_connection(connection):
        exchange = Exchange(peer, connection, data, itertools.repeat(1))
        for cut in cuts:
            exchange.send_some(min(cut, len(exchange.outgoing) - 1))
            exchange.read_all_that_is_there()
            assert exchange.modifier1 is None
        exchange.send_some(len(exchange.outgoing))
        with pytest.raises(MalformedPacket):
            exchange.read_to_the_end()


def test_an_answer_to_nobody(ends: Ends) -> None:
    peer, connection = ends.connect()
    with closing_connection(connection):
        with peer:
            peer.sendall(encode_packet({}))
            wait(connection.fileno(), select.POLLIN)
            assert connection.receive_packet(SCRATCH, LIMITS, 0) == 0
        wait(connection.fileno(), select.POLLHUP)
        with pytest.raises(PeerGone):
            send_for_ever(connection)


def send_for_ever(connection: Connection) -> None:
    while True:
        connection.send(ANSWER)


def test_nothing_has_arrived(ends: Ends) -> None:
    peer, connection = ends.connect()
    with peer, closing_connection(connection):
        with pytest.raises(BlockingIOError):
            connection.receive_packet(SCRATCH, LIMITS, 0)
        peer.sendall(encode_packet({"CONTENT_LENGTH": "1"}))
        wait(connection.fileno(), select.POLLIN)
        connection.receive_packet(SCRATCH, LIMITS, 0)
        with pytest.raises(BlockingIOError):
            connection.receive_body()
        assert not connection.body_over


def closing_connection(connection: Connection) -> closing[_ForceClose]:
    return closing(_ForceClose(connection))


class _ForceClose:
    """What a test that fails leaves open is closed all the same."""

    def __init__(self, connection: Connection) -> None:
        self.close = connection.force_close
