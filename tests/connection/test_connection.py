"""A connection over real sockets: taking its input, ending it cleanly, and breaking it visibly."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.bridge import on_each_socket
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import packet, reset
from tests.ways import socket_pair
from uwsgibridge.connection import sending
from uwsgibridge.connection.connection import SCRATCH_BYTES, Connection
from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.protocol.errors import BodyTooLarge, HttpNotUwsgi
from uwsgibridge.protocol.packet import MODIFIER_PING, PING, PacketLimits

SCRATCH = memoryview(bytearray(SCRATCH_BYTES))


@contextmanager
def pair(family: str) -> Iterator[tuple[Connection, socket.socket]]:
    """Give our end, and the peer's."""
    ours, peer = socket_pair(family)
    peer.settimeout(PATIENCE_SECONDS)
    connection = Connection(ours, is_unix=family == "unix")
    with peer, closing(ours):
        yield connection, peer


def when_ready(connection: Connection, function: Callable[[], Any]) -> Any:
    """Do what the owner of a connection does: try, and wait where it must."""
    import select

    while True:
        try:
            return function()
        except BlockingIOError:
            readable, _, _ = select.select([connection], [], [], PATIENCE_SECONDS)
            assert readable


def receive_packet(connection: Connection, max_body_bytes: int = 0) -> int | None:
    result: int | None = when_ready(
        connection, lambda: connection.receive_packet(SCRATCH, PacketLimits(), max_body_bytes)
    )
    return result


def receive_body(connection: Connection, max_bytes: int = 65_536) -> bytes:
    result: bytes = when_ready(connection, lambda: connection.receive_body(max_bytes))
    return result


# Taking the packet.


@on_each_socket
def test_packet_that_arrives_at_once(family: str):
    with pair(family) as (connection, peer):
        peer.sendall(packet("/path"))

        assert receive_packet(connection) == 0
        assert connection.request.vars["PATH_INFO"] == "/path"
        assert connection.pop_whole_body() == b""
        assert connection.body_over


@on_each_socket
def test_packet_that_arrives_byte_by_byte(family: str):
    request = packet("/path", content_length=4) + b"body"
    with pair(family) as (connection, peer):
        last = len(request) - 5
        for position in range(last):
            peer.sendall(request[position : position + 1])
            assert receive_packet(connection) is None
        peer.sendall(request[last : last + 1])
        assert receive_packet(connection) == 0
        assert not connection._pending, "the request holds its packet twice"
        for position in range(4):
            peer.sendall(request[last + 1 + position : last + 2 + position])
            assert receive_body(connection) == b"body"[position : position + 1]
        assert receive_body(connection) == b""
        assert connection.body_over


@on_each_socket
def test_ping_is_no_request(family: str):
    with pair(family) as (connection, peer):
        peer.sendall(PING)

        assert receive_packet(connection) == MODIFIER_PING
        assert not hasattr(connection, "request")
        assert connection.close()


@on_each_socket
def test_nothing_has_arrived(family: str):
    with pair(family) as (connection, _), pytest.raises(BlockingIOError):
        connection.receive_packet(SCRATCH, PacketLimits(), 0)


@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
@pytest.mark.parametrize("sent", [b"", packet()[:10]], ids=["nothing", "a-part"])
def test_peer_that_leaves_before_its_packet_is_whole(
    family: str, leave: Callable[[Any], None], sent: bytes
):
    with pair(family) as (connection, peer):
        if sent:
            peer.sendall(sent)
            assert receive_packet(connection) is None
        leave(peer)

        with pytest.raises(PeerGone, match="the client has gone away"):
            receive_packet(connection)


@on_each_socket
def test_what_is_no_packet_is_refused(family: str):
    with pair(family) as (connection, peer):
        peer.sendall(b"GET / HTTP/1.1\r\n")

        with pytest.raises(HttpNotUwsgi):
            receive_packet(connection)


@on_each_socket
def test_body_over_the_limit_is_refused_before_it_arrives(family: str):
    with pair(family) as (connection, peer):
        peer.sendall(packet(content_length=11))

        with pytest.raises(BodyTooLarge):
            receive_packet(connection, max_body_bytes=10)


# Taking the body.


@on_each_socket
def test_body_that_came_with_the_packet_can_be_taken_whole(family: str):
    with pair(family) as (connection, peer):
        peer.sendall(packet(content_length=4) + b"body")
        receive_packet(connection)

        assert connection.pop_whole_body() == b"body"
        assert connection.body_over
        assert receive_body(connection) == b""


@on_each_socket
def test_body_that_is_not_all_there_can_not_be_taken_whole(family: str):
    with pair(family) as (connection, peer):
        peer.sendall(packet(content_length=4) + b"bod")
        receive_packet(connection)

        assert connection.pop_whole_body() is None
        assert receive_body(connection) == b"bod"
        assert not connection.body_over
        with pytest.raises(BlockingIOError):
            connection.receive_body()


@on_each_socket
@pytest.mark.parametrize("max_bytes", [1, 3, 4, 7, 100])
def test_body_comes_in_pieces_no_larger_than_asked_for(family: str, max_bytes: int):
    body = b"0123456789"
    with pair(family) as (connection, peer):
        peer.sendall(packet(content_length=10) + body[:4])
        receive_packet(connection)
        peer.sendall(body[4:])

        pieces = []
        while piece := receive_body(connection, max_bytes):
            assert len(piece) <= max_bytes
            pieces.append(piece)

        assert b"".join(pieces) == body
        assert connection.body_over


@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
def test_peer_that_leaves_before_the_body_is_whole(family: str, leave: Callable[[Any], None]):
    with pair(family) as (connection, peer):
        peer.sendall(packet(content_length=4) + b"bod")
        receive_packet(connection)
        leave(peer)

        assert receive_body(connection) == b"bod"
        with pytest.raises(PeerGone, match="the client has gone away"):
            receive_body(connection)


# Ending it. Each state of the input: what is sent with the packet, and later; how much of it is read.

STATES = {
    "no-body": (None, b"", b"", 0),
    "body-unread": (b"body", b"", b"", 0),
    "body-read": (b"body", b"", b"", 4),
    "body-half-read": (b"body", b"", b"", 2),
    "late-body-read": (b"bo", b"dy", b"", 4),
    "late-body-half-read": (b"", b"body", b"", 2),
    "late-body-unread": (b"bo", b"dy", b"", 2),
    "with-bytes-beyond": (b"body", b"", b"and more", 0),
    "with-late-bytes-beyond": (b"body", b"", b"", 4),
}

# The states in which all of the input is taken, or at hand with the packet.
COMPLETE = [name for name in STATES if name not in {"late-body-half-read", "late-body-unread"}]


@contextmanager
def in_state(family: str, name: str) -> Iterator[tuple[Connection, socket.socket]]:
    early, late, beyond, read_bytes = STATES[name]
    with pair(family) as (connection, peer):
        length = None if early is None else len(early + late)
        peer.sendall(packet(content_length=length) + (early or b"") + beyond)
        assert receive_packet(connection) == 0
        peer.sendall(late)
        read = b""
        while len(read) < read_bytes:
            read += receive_body(connection, read_bytes - len(read))
        assert read == ((early or b"") + late)[:read_bytes]
        if name == "with-late-bytes-beyond":
            peer.sendall(b"and more")
        yield connection, peer


def receive_to_the_end(peer: socket.socket) -> tuple[bytes, bool]:
    """Give what was received, and whether a reset ended it."""
    received = b""
    while True:
        try:
            piece = peer.recv(65_536)
        except ConnectionResetError:
            return received, True
        if not piece:
            return received, False
        received += piece


@on_each_socket
@pytest.mark.parametrize("state", [it for it in COMPLETE if it != "with-late-bytes-beyond"])
def test_close_lets_the_peer_read_to_the_end(family: str, state: str):
    with in_state(family, state) as (connection, peer):
        assert connection.send(b"answer") == 6

        assert connection.close()
        assert connection.closed
        assert receive_to_the_end(peer) == (b"answer", False)


@on_each_socket
@pytest.mark.parametrize("beyond", [b"", b"more"], ids=["alone", "with-bytes-beyond"])
def test_close_takes_a_short_rest_of_the_body_that_has_arrived(family: str, beyond: bytes):
    with pair(family) as (connection, peer):
        peer.sendall(packet(content_length=60_000) + b"a" * 20_000)
        assert receive_packet(connection) == 0
        assert receive_body(connection, 10_000)
        peer.sendall(b"b" * 40_000 + beyond)
        connection.send(b"answer")
        wait_for_input(connection, connection.body_unseen + len(beyond))

        assert connection.close()
        assert connection.closed
        assert receive_to_the_end(peer) == (b"answer", False)


def wait_for_input(connection: Connection, size_bytes: int) -> None:
    """Wait until so many bytes are in the kernel."""
    deadline = monotonic() + PATIENCE_SECONDS
    scratch = bytearray(65_536)
    with socket.socket(fileno=os.dup(connection.fileno())) as view:
        while view.recv_into(scratch, 0, socket.MSG_PEEK) < size_bytes:
            assert monotonic() < deadline


@on_each_socket
def test_rest_of_a_body_is_left_in_the_kernel_until_it_is_read(family: str):
    """With unread input, the end of the process resets the connection, which shows that there was no answer."""
    with pair(family) as (connection, peer):
        peer.sendall(packet(content_length=100_000) + b"a" * 50_000)
        assert receive_packet(connection) == 0
        peer.sendall(b"b" * 50_000)
        read = 0
        while not connection.body_over:
            read += len(receive_body(connection))
        assert read == 100_000
        connection.send(b"half an ans")

        connection.force_close()

        assert receive_to_the_end(peer)[1] == (family == "unix")


@on_each_socket
@pytest.mark.parametrize("early", [b"", b"bo"])
def test_close_with_input_outstanding_is_put_off(family: str, early: bytes):
    with pair(family) as (connection, peer):
        peer.sendall(packet(content_length=4) + early)
        assert receive_packet(connection) == 0
        connection.send(b"answer")

        assert not connection.close()
        assert not connection.closed
        connection.shutdown_write()
        assert receive_to_the_end(peer) == (b"answer", False)
        peer.shutdown(socket.SHUT_WR)
        while not when_ready(connection, connection.discard_input):
            pass
        connection.force_close()
        assert connection.closed


@on_each_socket
@pytest.mark.parametrize("state", STATES)
def test_abort_resets_the_peer(family: str, state: str):
    with in_state(family, state) as (connection, peer):
        connection.send(b"half an ans")

        assert connection.abort()
        assert connection.closed
        assert receive_to_the_end(peer)[1]


def test_abort_of_a_unix_socket_waits_for_input_that_it_can_leave_unread():
    with pair("unix") as (connection, peer):
        peer.sendall(packet(content_length=4))
        receive_packet(connection)
        connection.send(b"half an ans")

        assert not connection.abort()
        assert not connection.closed
        peer.sendall(b"bo")
        connection.force_close()
        assert receive_to_the_end(peer) == (b"half an ans", True)


def test_abort_of_tcp_needs_no_input():
    with pair("tcp") as (connection, peer):
        peer.sendall(packet(content_length=4))
        receive_packet(connection)

        assert connection.abort()
        assert receive_to_the_end(peer) == (b"", True)


@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
def test_end_of_a_connection_whose_peer_has_gone(family: str, leave: Callable[[Any], None]):
    for end in (Connection.close, Connection.abort):
        with pair(family) as (connection, peer):
            peer.sendall(packet(content_length=4) + b"body")
            receive_packet(connection)
            leave(peer)
            assert end(connection)
            assert connection.closed


@on_each_socket
def test_force_close_twice_is_harmless(family: str):
    with pair(family) as (connection, _):
        connection.force_close()
        connection.force_close()
        assert connection.fileno() == -1


@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
def test_discard_ends_with_the_peer(family: str, leave: Callable[[Any], None]):
    with pair(family) as (connection, peer):
        peer.sendall(b"anything")
        assert when_ready(connection, connection.discard_input) is False
        leave(peer)
        assert when_ready(connection, connection.discard_input) is True


# Taking the peer away from who still uses the connection.


@on_each_socket
@pytest.mark.parametrize("state", [it for it in STATES if it != "with-late-bytes-beyond"])
def test_who_uses_it_meets_nobody_when_the_peer_is_taken_away(family: str, state: str):
    with in_state(family, state) as (connection, peer):
        number = connection.fileno()
        taken = connection.detach_peer()

        assert connection.fileno() == number != taken.fileno()
        with pytest.raises(PeerGone, match="the client has gone away"):
            connection.send(b"late")
        assert connection.close()
        assert taken.request is connection.request
        assert taken.send(b"answer") == 6
        if not taken.close():
            taken.shutdown_write()
            assert receive_to_the_end(peer) == (b"answer", False)
            taken.force_close()
        else:
            assert receive_to_the_end(peer) == (b"answer", False)


@on_each_socket
@pytest.mark.parametrize("state", STATES)
def test_what_was_taken_away_can_be_broken(family: str, state: str):
    with in_state(family, state) as (connection, peer):
        taken = connection.detach_peer()
        taken.send(b"half an ans")

        assert taken.abort()
        assert receive_to_the_end(peer)[1]
        connection.force_close()


def test_body_is_not_read_on_when_the_peer_is_taken_away():
    with in_state("unix", "late-body-half-read") as (connection, _):
        taken = connection.detach_peer()
        assert connection.body_over
        assert not taken.body_over
        taken.force_close()


# Writing.


def send_until_full(connection: Connection, data: memoryview) -> int:
    sent = 0
    while sent < len(data):
        try:
            count = connection.send(data[sent:])
        except BlockingIOError:
            break
        assert count > 0
        sent += count
    return sent


@on_each_socket
def test_send_takes_what_fits(family: str):
    with pair(family) as (connection, peer):
        large = memoryview(bytes(50_000_000))
        sent = send_until_full(connection, large)
        assert 0 < sent < len(large)
        connection.force_close()
        received, _ = receive_to_the_end(peer)
        assert len(received) == sent


@on_each_socket
def test_send_to_a_peer_that_has_gone(family: str):
    with pair(family) as (connection, peer):
        reset(peer)

        with pytest.raises(PeerGone, match="the client has gone away"):
            send_until_full(connection, memoryview(bytes(50_000_000)))


# Whether the peer is still there.


@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
@pytest.mark.parametrize("unread", [b"", b"12345"], ids=["no-body", "unread-body"])
def test_peer_that_has_left_is_seen(family: str, leave: Callable[[Any], None], unread: bytes):
    with pair(family) as (connection, peer):
        peer.sendall(packet(method="POST", content_length=10))
        receive_packet(connection)
        peer.sendall(unread)
        assert not connection.has_hung_up()

        leave(peer)

        assert connection.has_hung_up()


@on_each_socket
def test_connection_that_is_closed_has_no_peer(family: str):
    with pair(family) as (connection, _):
        connection.force_close()
        assert connection.has_hung_up()


@on_each_socket
def test_two_buffers_leave_in_one_call(family: str):
    with pair(family) as (connection, peer):
        assert connection.send_pair(b"head", memoryview(b"body")) == 8
        assert connection.send_pair(b"", b"") == 0
        connection.close()
        assert peer.recv(100) == b"headbody"


@on_each_socket
@pytest.mark.parametrize("sizes", [(10, 16_000_000), (16_000_000, 10), (8_000_000, 8_000_000)])
def test_of_two_buffers_leaves_what_fits(family: str, sizes: tuple[int, int]):
    with pair(family) as (connection, peer):
        first, second = b"1" * sizes[0], b"2" * sizes[1]
        sent_bytes = connection.send_pair(first, second)
        assert 10 < sent_bytes < 16_000_010
        received = b""
        while len(received) < sent_bytes:
            received += peer.recv(1_000_000)
        assert received == (first + second)[:sent_bytes]
        connection.force_close()


@on_each_socket
def test_two_buffers_to_a_peer_that_has_gone(family: str):
    with pair(family) as (connection, peer):
        reset(peer)
        with pytest.raises(PeerGone, match="the client has gone away"):
            send_pairs(connection, 1000)
        assert connection.peer_gone


@on_each_socket
def test_two_buffers_that_do_not_fit_are_no_failure(family: str):
    with pair(family) as (connection, _):
        with pytest.raises(BlockingIOError):
            send_pairs(connection, 1000)
        assert not connection.peer_gone


def send_pairs(connection: Connection, count: int) -> None:
    for _ in range(count):
        connection.send_pair(b"x", bytes(100_000))


# Writing more than fits.


@pytest.mark.parametrize("by", ["send", "send_pair", "send_file"])
def test_a_unix_socket_holds_more_of_an_answer_that_does_not_fit(by: str, tmp_path: Path):
    """Else a thread would wait for Nginx, and be woken, several times for each MiB."""
    file = tmp_path / "large"
    file.write_bytes(b"x" * 4_194_304)
    with pair("unix") as (connection, _), file.open("rb") as opened:
        sent_bytes = 0
        before = send_buffer_bytes(connection)
        with suppress(BlockingIOError):
            while sent_bytes < 4_194_304:
                if by == "send":
                    sent_bytes += connection.send(b"x" * 65_536)
                elif by == "send_pair":
                    sent_bytes += connection.send_pair(b"x" * 60_000, b"x" * 5_536)
                else:
                    sent_bytes += connection.send_file(opened.fileno(), 0, 65_536)

        assert send_buffer_bytes(connection) > before
        assert sent_bytes > before


def test_an_answer_that_fits_leaves_the_buffer_as_it_is():
    with pair("unix") as (connection, _):
        before = send_buffer_bytes(connection)
        connection.send(b"answer")
        assert send_buffer_bytes(connection) == before


def test_a_larger_buffer_of_the_operator_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sending, "_default_send_buffer_bytes", lambda: 2_097_152)
    with pair("unix") as (connection, _):
        before = send_buffer_bytes(connection)
        sent_bytes = 0
        with suppress(BlockingIOError):
            while sent_bytes < 4_194_304:
                sent_bytes += connection.send(b"x" * 65_536)
        assert sent_bytes < 4_194_304
        assert send_buffer_bytes(connection) == before


def send_buffer_bytes(connection: Connection) -> int:
    with socket.socket(fileno=os.dup(connection.fileno())) as view:
        return view.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
