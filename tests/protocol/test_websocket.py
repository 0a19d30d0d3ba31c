"""WebSockets without I/O: handshakes from vars, messages from frames, in every chunking."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    frame,
    split_frames,
)
from uwsgibridge.protocol import websocket_frames
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.protocol.handshake import HandshakeRefused, wants_websocket
from uwsgibridge.protocol.packet import PacketLimits, encode_packet, parse_packet
from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.websocket import (
    Closed,
    Event,
    PongReceived,
    WebSocket,
)
from uwsgibridge.protocol.websocket import Message as MessageOfBytes
from uwsgibridge.protocol.websocket_frames import SentFrames

# RFC 6455, section 1.3: a key, and what it leads to.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

HANDSHAKE = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": KEY,
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}

DEFLATE = {"HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate"}

LIMITS = PacketLimits(max_vars_bytes=65_535, max_vars=1000)
LIMIT_BYTES = 1000

RSV1 = 4
COMPRESSED_TEXT = 0x80 | 0x40 | TEXT


def Message(data: str | bytes) -> MessageOfBytes:
    """Make a message as it is when it has arrived."""
    is_text = isinstance(data, str)
    return MessageOfBytes(data.encode() if isinstance(data, str) else data, is_text)


def handshake(
    variables: Mapping[str, str | None] | None = None,
    *,
    max_message_bytes: int = LIMIT_BYTES,
    deflate: bool = False,
) -> WebSocket:
    """Begin a WebSocket; a var of None is left out."""
    named = {
        name: value
        for name, value in {**HANDSHAKE, **(variables or {})}.items()
        if value is not None
    }
    packet = parse_packet(memoryview(encode_packet(named)), LIMITS)
    assert packet is not None
    return WebSocket(Request(packet), max_message_bytes=max_message_bytes, deflate=deflate)


def opened(*, max_message_bytes: int = LIMIT_BYTES, deflate: bool = False) -> WebSocket:
    websocket = handshake(DEFLATE, max_message_bytes=max_message_bytes, deflate=deflate)
    websocket.accept(None, ())
    return websocket


def head_of(websocket: WebSocket, *arguments: Any) -> list[bytes]:
    head = websocket.accept(*arguments or (None, ()))
    assert head.endswith(b"\r\n\r\n")
    status, *lines = head[:-4].split(b"\r\n")
    assert status == b"HTTP/1.1 101 Switching Protocols"
    return lines


def collect(websocket: WebSocket, chunks: Iterable[bytes]) -> tuple[list[Event], bytes]:
    """Give all chunks, and collect events and answers up to the end."""
    events: list[Event] = []
    answers = b""
    for chunk in chunks:
        for event, answer in websocket.receive(chunk):
            answers += answer
            if event is not None:
                events.append(event)
            if isinstance(event, Closed):
                return events, answers
    return events, answers


CHUNKINGS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": lambda data: [data],
    "byte-by-byte": lambda data: [data[i : i + 1] for i in range(len(data))],
    "in-two": lambda data: [data[: len(data) // 2 or 1], data[len(data) // 2 or 1 :] or b"\x89"],
}
in_each_chunking = pytest.mark.parametrize("cut", CHUNKINGS.values(), ids=CHUNKINGS)


# --- The handshake --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["websocket", "WebSocket", "WEBSOCKET"])
def test_an_upgrade_to_websocket_is_seen(value: str) -> None:
    assert wants_websocket({"HTTP_UPGRADE": value})


@pytest.mark.parametrize("variables", [{}, {"HTTP_UPGRADE": ""}, {"HTTP_UPGRADE": "h2c"}])
def test_any_other_request_is_none(variables: dict[str, str]) -> None:
    assert not wants_websocket(variables)


def test_the_example_of_the_specification_is_answered() -> None:
    assert head_of(handshake()) == [
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + ACCEPT,
    ]


def test_it_is_open_from_its_acceptance_on() -> None:
    websocket = handshake()
    assert not websocket.is_open
    websocket.accept(None, ())
    assert websocket.is_open


@pytest.mark.parametrize("value", ["Upgrade", "upgrade", "keep-alive, Upgrade", " Upgrade ,close"])
def test_connection_is_a_list(value: str) -> None:
    assert head_of(handshake({"HTTP_CONNECTION": value}))


@pytest.mark.parametrize(
    ("status", "variables", "says"),
    [
        (400, {"REQUEST_METHOD": "POST"}, "is a GET request"),
        (400, {"SERVER_PROTOCOL": "HTTP/1.0"}, "is HTTP/1.1"),
        (400, {"SERVER_PROTOCOL": "HTTP/2.0"}, "is HTTP/1.1"),
        (400, {"HTTP_CONNECTION": None}, "Connection header"),
        (400, {"HTTP_CONNECTION": "close"}, "Connection header"),
        (400, {"HTTP_CONNECTION": "upgraded"}, "Connection header"),
        (426, {"HTTP_SEC_WEBSOCKET_VERSION": "8"}, "version 13"),
        (426, {"HTTP_SEC_WEBSOCKET_VERSION": None}, "version 13"),
        (426, {"HTTP_SEC_WEBSOCKET_VERSION": "13, 8"}, "version 13"),
        (400, {"HTTP_SEC_WEBSOCKET_KEY": None}, "16 bytes in base64"),
        (400, {"HTTP_SEC_WEBSOCKET_KEY": ""}, "16 bytes in base64"),
        (400, {"HTTP_SEC_WEBSOCKET_KEY": "c2hvcnQ="}, "16 bytes in base64"),
        (400, {"HTTP_SEC_WEBSOCKET_KEY": KEY[:-1]}, "16 bytes in base64"),
        (400, {"HTTP_SEC_WEBSOCKET_KEY": f"{KEY}, {KEY}"}, "16 bytes in base64"),
        (400, {"HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ\xe9="}, "16 bytes in base64"),
    ],
)
def test_a_handshake_that_is_refused(
    status: int, variables: dict[str, str | None], says: str
) -> None:
    with pytest.raises(HandshakeRefused, match=says) as raised:
        handshake(variables)
    assert raised.value.status == status
    assert raised.value.reason == "websocket_handshake"


def test_a_wrong_version_is_told_the_right_one() -> None:
    with pytest.raises(HandshakeRefused) as raised:
        handshake({"HTTP_SEC_WEBSOCKET_VERSION": "8"})
    assert dict(raised.value.headers) == {b"Sec-WebSocket-Version": b"13"}


@pytest.mark.parametrize(
    ("value", "offered"),
    [(None, []), ("", []), ("chat", ["chat"]), ("chat, superchat ,", ["chat", "superchat"])],
)
def test_an_offered_subprotocol_is_accepted(value: str | None, offered: list[str]) -> None:
    websocket = handshake({"HTTP_SEC_WEBSOCKET_PROTOCOL": value})
    assert websocket.subprotocols == offered
    for name in offered:
        lines = head_of(handshake({"HTTP_SEC_WEBSOCKET_PROTOCOL": value}), name, ())
        assert f"Sec-WebSocket-Protocol: {name}".encode() in lines
    with pytest.raises(InvalidResponse, match="did not offer the subprotocol 'other'"):
        websocket.accept("other", ())
    assert not websocket.is_open


def test_further_headers_keep_their_order() -> None:
    headers = [(b"set-cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"x-latin", b"caf\xe9")]
    lines = head_of(handshake(), None, headers)
    assert lines[-3:] == [b"set-cookie: a=1", b"Set-Cookie: b=2", b"x-latin: caf\xe9"]


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"UPGRADE",
        b"sec-websocket-accept",
        b"Sec-WebSocket-Extensions",
        b"sec-websocket-protocol",
    ],
)
def test_headers_of_the_handshake_are_its_own(name: bytes) -> None:
    with pytest.raises(InvalidResponse, match="is the handshake's own header"):
        handshake().accept(None, [(name, b"x")])


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([(b"x", b"1\r\ny: 2")], "the value of 'x' holds a CR, LF or NUL"),
        ([(b"x\r\ny", b"1")], "is not a header name"),
        ([("x", "1")], "headers must be pairs of bytes"),
        ([(b"x", None)], "headers must be pairs of bytes"),
        ([b"x"], "headers must be pairs of bytes"),
        (None, "headers must be pairs of bytes"),
        (5, "headers must be pairs of bytes"),
    ],
)
def test_headers_that_can_not_be_sent(headers: Any, says: str) -> None:
    websocket = handshake()
    with pytest.raises(InvalidResponse, match=says):
        websocket.accept(None, headers)
    assert not websocket.is_open


def test_an_error_of_the_application_as_it_makes_the_headers_stays_its_own() -> None:
    def headers() -> Iterator[tuple[bytes, bytes]]:
        yield b"x", b"1"
        raise ValueError("the database said no")

    websocket = handshake()
    with pytest.raises(ValueError, match="the database said no"):
        websocket.accept(None, headers())
    assert not websocket.is_open


# --- Messages -------------------------------------------------------------------------------------

SNOWMAN = "\u2603".encode()

STREAMS: dict[str, tuple[bytes, list[Event], list[tuple[int, bytes]]]] = {
    "text": (frame(TEXT, b"text"), [Message("text")], []),
    "bytes": (frame(BINARY, b"\x00\xff"), [Message(b"\x00\xff")], []),
    "empty": (frame(TEXT) + frame(BINARY), [Message(""), Message(b"")], []),
    "126-bytes": (frame(BINARY, bytes(126)), [Message(bytes(126))], []),
    "fragments": (
        frame(TEXT, b"one ", fin=False)
        + frame(CONTINUATION, b"", fin=False)
        + frame(CONTINUATION, b"two"),
        [Message("one two")],
        [],
    ),
    "a-character-in-two-fragments": (
        frame(TEXT, SNOWMAN[:1], fin=False) + frame(CONTINUATION, SNOWMAN[1:]),
        [Message("\u2603")],
        [],
    ),
    "a-ping": (frame(PING, b"payload"), [], [(0x80 | PONG, b"payload")]),
    "a-pong": (frame(PONG, b"payload"), [PongReceived()], []),
    "pings-between-fragments": (
        frame(BINARY, b"one ", fin=False)
        + frame(PING, b"1")
        + frame(CONTINUATION, b"two", fin=False)
        + frame(PING, b"2")
        + frame(CONTINUATION),
        [Message(b"one two")],
        [(0x80 | PONG, b"1"), (0x80 | PONG, b"2")],
    ),
    "a-close": (
        frame(TEXT, b"before") + frame(CLOSE, close_payload(4000, "why")) + frame(TEXT, b"after"),
        [Message("before"), Closed(4000, "why")],
        [(0x80 | CLOSE, close_payload(4000, "why"))],
    ),
    **{
        f"a-close-with-{code}": (
            frame(CLOSE, close_payload(code)),
            [Closed(code, "")],
            [(0x80 | CLOSE, close_payload(code))],
        )
        for code in (1000, 1003, 1007, 1012, 1013, 1014, 3000, 4999)
    },
    "a-close-without-a-code": (frame(CLOSE), [Closed(1005, "")], [(0x80 | CLOSE, b"")]),
}


@in_each_chunking
@pytest.mark.parametrize(("data", "events", "answers"), STREAMS.values(), ids=STREAMS)
def test_streams_of_frames_give_these_events_and_answers(
    cut: Callable[[bytes], list[bytes]],
    data: bytes,
    events: list[Event],
    answers: list[tuple[int, bytes]],
) -> None:
    found, answered = collect(opened(), cut(data))
    assert found == events
    assert split_frames(answered) == answers


def test_the_end_of_the_tunnel_is_an_abnormal_close() -> None:
    assert collect(opened(), [b""]) == ([Closed(1006, "")], b"")
    assert collect(opened(), [frame(TEXT, b"half", fin=False), b""]) == ([Closed(1006, "")], b"")


BROKEN_RULES = {
    "a-reserved-bit": (1002, frame(TEXT, rsv=2)),
    "a-reserved-opcode": (1002, frame(3)),
    "an-unmasked-frame": (1002, frame(TEXT, masked=False)),
    "a-fragmented-ping": (1002, frame(PING, fin=False)),
    "a-long-ping": (1002, frame(PING, bytes(126))),
    "a-continuation-of-nothing": (1002, frame(CONTINUATION)),
    "a-message-in-a-message": (1002, frame(TEXT, fin=False) + frame(TEXT)),
    "no-utf-8": (1007, frame(TEXT, b"\xff")),
    "no-utf-8-before-the-end": (1007, frame(TEXT, b"\xff", fin=False)),
    "half-a-character": (1007, frame(TEXT, SNOWMAN[:2])),
    "a-close-of-one-byte": (1002, frame(CLOSE, b"\x03")),
    **{
        f"a-close-with-{code}": (1002, frame(CLOSE, close_payload(code)))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)
    },
    "a-length-that-could-be-shorter": (1002, b"\x82\xfe\x00\x7d" + bytes(4 + 125)),
    "a-length-that-could-be-much-shorter": (
        1002,
        b"\x82\xff" + (65_535).to_bytes(8, "big") + bytes(4 + 65_535),
    ),
    "a-length-of-64-bits": (1002, b"\x82\xff\x80" + bytes(7 + 4)),
    "no-utf-8-before-the-end-of-a-frame": (1007, b"\x81\xfe\x03\xe8" + bytes(4) + b"a\xff"),
    "text-in-a-reserved-bit": (1002, frame(TEXT, rsv=4)),
    "a-close-with-no-utf-8": (1007, frame(CLOSE, close_payload(1000) + b"\xff")),
}


@in_each_chunking
@pytest.mark.parametrize(("code", "data"), BROKEN_RULES.values(), ids=BROKEN_RULES)
def test_a_broken_rule_closes_the_websocket(
    cut: Callable[[bytes], list[bytes]], code: int, data: bytes
) -> None:
    websocket = opened()
    events, answers = collect(websocket, cut(frame(BINARY, b"before") + data))
    message, closed = events
    assert message == Message(b"before")
    assert isinstance(closed, Closed)
    assert closed.code == code
    assert closed.reason
    ((first, payload),) = split_frames(answers)
    assert (first, payload[:2]) == (0x80 | CLOSE, close_payload(code))
    assert not websocket.is_open


# --- The limit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, bytes(LIMIT_BYTES)),
        frame(TEXT, SNOWMAN * (LIMIT_BYTES // 3)),
        b"".join(
            frame(BINARY if not n else CONTINUATION, bytes(100), fin=n == 9) for n in range(10)
        ),
    ],
    ids=["bytes", "text", "fragments"],
)
def test_a_message_of_the_limit_arrives(data: bytes) -> None:
    (message,), answers = collect(opened(), [data, frame(PING)])
    assert isinstance(message, MessageOfBytes)
    assert split_frames(answers) == [(0x80 | PONG, b"")]


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, bytes(LIMIT_BYTES + 1)),
        frame(TEXT, SNOWMAN * (LIMIT_BYTES // 3 + 1)),
        frame(BINARY, bytes(LIMIT_BYTES), fin=False) + frame(CONTINUATION, b"1", fin=False),
    ],
    ids=["bytes", "text", "fragments"],
)
def test_a_message_over_the_limit_closes_the_websocket(data: bytes) -> None:
    websocket = opened()
    (closed,), answers = collect(websocket, [data])
    assert closed == Closed(1009, f"a message is over {LIMIT_BYTES} bytes")
    assert split_frames(answers) == [
        (0x80 | CLOSE, close_payload(1009, f"a message is over {LIMIT_BYTES} bytes"))
    ]


def test_messages_are_limited_one_by_one() -> None:
    events, _ = collect(opened(), [frame(BINARY, bytes(LIMIT_BYTES - 1))] * 5)
    assert events == [Message(bytes(LIMIT_BYTES - 1))] * 5


@pytest.mark.parametrize("size", [0, 1, 2])
def test_what_many_small_fragments_cost(size: int) -> None:
    """Memory is in the order of the message, not of the number of its fragments."""
    limit_bytes = 50_000
    websocket = opened(max_message_bytes=limit_bytes)
    collect(websocket, [frame(BINARY, fin=False)])
    chunk = frame(CONTINUATION, bytes(size), fin=False) * 1000
    tracemalloc.start()
    try:
        for _ in range(20):
            assert collect(websocket, [chunk]) == ([], b"")
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 2 * limit_bytes
    (message,), _ = collect(websocket, [frame(CONTINUATION)])
    assert message == Message(bytes(20_000 * size))


# --- What the server sends ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_messages_are_single_frames(size: int) -> None:
    websocket = opened()
    assert split_frames(websocket.send(b"x" * size)) == [(0x80 | BINARY, b"x" * size)]
    assert split_frames(websocket.send("x" * size)) == [(0x80 | TEXT, b"x" * size)]


def test_a_ping_is_a_frame() -> None:
    assert split_frames(opened().ping()) == [(0x80 | PING, b"")]


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
def test_a_close_is_a_frame(code: int) -> None:
    websocket = opened()
    assert split_frames(websocket.close(code, "why")) == [
        (0x80 | CLOSE, close_payload(code, "why"))
    ]
    assert not websocket.is_open
    # Once is enough, and nothing follows.
    assert websocket.close(code) == b""
    assert websocket.ping() == b""
    assert collect(websocket, [frame(PING, b"late")]) == ([], b"")


def test_the_client_answers_a_close() -> None:
    websocket = opened()
    websocket.close(1000)
    events, answers = collect(
        websocket, [frame(BINARY, b"on its way") + frame(CLOSE, close_payload(1000))]
    )
    assert events == [Message(b"on its way"), Closed(1000, "")]
    assert answers == b""


@pytest.mark.parametrize("reason", ["x" * 124, "\u2603" * 42, "\U0001f30d" * 31, "x" * 10_000])
def test_a_long_reason_is_cut_between_characters(reason: str) -> None:
    ((_, payload),) = split_frames(opened().close(1000, reason))
    kept = payload[2:].decode()
    assert reason.startswith(kept)
    assert 119 < len(kept.encode()) <= 123


@pytest.mark.parametrize(
    "code",
    [
        -1,
        0,
        999,
        1004,
        1005,
        1006,
        1015,
        1016,
        1100,
        2999,
        5000,
        70_000,
        "1000",
        1000.5,
        True,
        None,
    ],
)
def test_a_code_that_can_not_be_sent(code: Any) -> None:
    websocket = opened()
    with pytest.raises(InvalidResponse, match="is not a code that a close frame may carry"):
        websocket.close(code)
    assert websocket.is_open


# --- permessage-deflate ---------------------------------------------------------------------------


def squeeze(data: bytes, window_bits: int = 15) -> bytes:
    compressor = zlib.compressobj(wbits=-window_bits)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def unsqueeze(data: bytes) -> bytes:
    return zlib.decompress(data + b"\x00\x00\xff\xff\x03\x00", wbits=-15)


def agreed(offered: str, *, deflate: bool = True) -> set[str] | None:
    lines = head_of(handshake({"HTTP_SEC_WEBSOCKET_EXTENSIONS": offered}, deflate=deflate))
    for line in lines:
        name, _, value = line.decode().partition(": ")
        if name == "Sec-WebSocket-Extensions":
            extension, *parameters = (part.strip() for part in value.split(";"))
            assert extension == "permessage-deflate"
            return set(parameters)
    return None


NO_TAKEOVER = {"server_no_context_takeover", "client_no_context_takeover"}


@pytest.mark.parametrize(
    ("offered", "parameters"),
    [
        ("permessage-deflate", set()),
        ("permessage-deflate;client_no_context_takeover", set()),
        ("permessage-deflate; server_no_context_takeover", set()),
        ("permessage-deflate; client_max_window_bits", {"client_max_window_bits=15"}),
        ("permessage-deflate; client_max_window_bits=9", {"client_max_window_bits=9"}),
        ("permessage-deflate; server_max_window_bits=15", {"server_max_window_bits=15"}),
        ("other, permessage-deflate", set()),
        ("permessage-deflate; unknown, permessage-deflate", set()),
    ],
)
def test_offers_that_are_agreed_to(offered: str, parameters: set[str]) -> None:
    assert agreed(offered) == NO_TAKEOVER | parameters
    assert agreed(offered, deflate=False) is None


@pytest.mark.parametrize(
    "offered",
    [
        "",
        "other",
        "permessage-deflated",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeovers",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=ten",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=09",
    ],
)
def test_offers_that_are_declined(offered: str) -> None:
    assert agreed(offered) is None


@in_each_chunking
def test_a_compressed_message_is_read(cut: Callable[[bytes], list[bytes]]) -> None:
    websocket = opened(deflate=True)
    data = b"".join(frame(TEXT, squeeze(text), rsv=RSV1) for text in (b"once", b"once", b""))
    assert collect(websocket, cut(data))[0] == [Message("once"), Message("once"), Message("")]


@in_each_chunking
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("between", [PING, PONG])
def test_control_frames_within_a_compressed_message_are_answered(
    cut: Callable[[bytes], list[bytes]], opcode: int, between: int
) -> None:
    payload = squeeze(b"0123456789" * 10)
    data = (
        frame(opcode, payload[:5], fin=False, rsv=RSV1)
        + frame(between, b"between")
        + frame(CONTINUATION, payload[5:8], fin=False)
        + frame(between, b"again")
        + frame(CONTINUATION, payload[8:])
        + frame(opcode, b"plain")
    )
    events, _ = collect(opened(deflate=True), cut(data))
    messages = [event.data for event in events if isinstance(event, MessageOfBytes)]
    assert messages == (
        ["0123456789" * 10, "plain"] if opcode == TEXT else [b"0123456789" * 10, b"plain"]
    )


def test_what_is_sent_is_compressed_by_itself() -> None:
    websocket = opened(deflate=True)
    for _ in range(2):
        ((first, payload),) = split_frames(websocket.send("0123456789" * 10))
        assert first == COMPRESSED_TEXT
        assert unsqueeze(payload) == b"0123456789" * 10
    assert split_frames(websocket.ping()) == [(0x80 | PING, b"")]
    assert split_frames(websocket.close(1000)) == [(0x80 | CLOSE, close_payload(1000))]


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (1007, frame(BINARY, b"\xff\xff\xff", rsv=RSV1)),
        (1007, frame(TEXT, squeeze(b"\xff"), rsv=RSV1)),
        (1002, frame(PING, rsv=RSV1)),
        (1002, frame(TEXT, squeeze(b"a"), fin=False, rsv=RSV1) + frame(CONTINUATION, rsv=RSV1)),
        (1002, frame(TEXT, squeeze(b"a"), rsv=RSV1 | 2)),
        (1009, frame(BINARY, squeeze(bytes(LIMIT_BYTES + 1)), rsv=RSV1)),
    ],
    ids=["no-deflate", "no-utf-8", "ping", "continuation", "rsv2", "too-big"],
)
@in_each_chunking
def test_a_broken_rule_of_compression_closes_the_websocket(
    cut: Callable[[bytes], list[bytes]], code: int, data: bytes
) -> None:
    events, answers = collect(opened(deflate=True), cut(data))
    assert isinstance(events[-1], Closed)
    assert events[-1].code == code
    assert split_frames(answers)[-1][1][:2] == close_payload(code)


def traced_peak(websocket: WebSocket, data: bytes) -> tuple[list[Event], int]:
    """Give what came of it, and how much memory that took at most."""
    tracemalloc.start()
    try:
        events, _ = collect(websocket, [data[i : i + 65_536] for i in range(0, len(data), 65_536)])
        return events, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("cuts", [(), (50,), tuple(range(0, 500, 5))], ids=len)
def test_the_limit_is_applied_while_a_message_is_inflated(opcode: int, cuts: Any) -> None:
    limit_bytes = 1_000_000
    payload = squeeze(b" " * 50 * limit_bytes)
    pieces = [payload[a:b] for a, b in itertools.pairwise([0, *cuts, len(payload)])]
    data = b"".join(
        frame(
            CONTINUATION if number else opcode,
            piece,
            fin=number == len(pieces) - 1,
            rsv=0 if number else RSV1,
        )
        for number, piece in enumerate(pieces)
    )
    websocket = opened(max_message_bytes=limit_bytes, deflate=True)
    (closed,), peak = traced_peak(websocket, data)
    assert isinstance(closed, Closed)
    assert closed.code == 1009
    assert peak < limit_bytes * 9 / 8 + 8 * 65_536
    assert websocket.unfinished_bytes == 0


def test_each_message_is_inflated_when_it_is_asked_for() -> None:
    size = 1_000_000
    data = frame(BINARY, squeeze(bytes(size)), rsv=RSV1)
    assert len(data) < 1100
    websocket = opened(max_message_bytes=size, deflate=True)
    tracemalloc.start()
    try:
        for event in websocket.receive(data * 50):
            assert event == (Message(bytes(size)), b"")
            break
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 4 * size
    finally:
        tracemalloc.stop()
    # Whoever stopped goes on where that was, and what arrives meanwhile comes behind it.
    assert sum(1 for _ in websocket.receive_more()) == 49
    assert collect(websocket, [data]) == ([Message(bytes(size))], b"")


def test_a_message_of_the_limit_that_can_not_be_compressed() -> None:
    payload = zlib.compress(b"".join(b"%d" % number for number in range(400)))[:LIMIT_BYTES]
    payload = (payload * 2)[:LIMIT_BYTES]
    stored = zlib.compressobj(0, wbits=-15)
    data = (stored.compress(payload) + stored.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(data) > len(payload) == LIMIT_BYTES
    assert collect(opened(deflate=True), [frame(BINARY, data, rsv=RSV1)])[0] == [Message(payload)]


LAST_BLOCK = bytes.fromhex("f3 48 cd c9 c9 07 00")  # RFC 7692, section 7.2.3.4: "Hello"


@in_each_chunking
@pytest.mark.parametrize("tail", [b"", b"\x00"])
def test_a_last_block_ends_the_data(cut: Callable[[bytes], list[bytes]], tail: bytes) -> None:
    data = frame(TEXT, LAST_BLOCK + tail, rsv=RSV1) + frame(TEXT, b"plain")
    assert collect(opened(deflate=True), cut(data))[0] == [Message("Hello"), Message("plain")]


@in_each_chunking
@pytest.mark.parametrize("more", [LAST_BLOCK, b"\x00\x00", b"x" * 500])
def test_nothing_is_kept_of_what_follows_a_last_block(
    cut: Callable[[bytes], list[bytes]], more: bytes
) -> None:
    data = frame(TEXT, LAST_BLOCK, fin=False, rsv=RSV1) + frame(CONTINUATION, more)
    events, _ = collect(opened(deflate=True), cut(data))
    assert events == [Closed(1007, "more follows the last block of deflated data")]


@pytest.mark.parametrize("end", ["client", "rule", "tunnel"])
def test_nothing_is_held_of_a_message_when_it_is_over(end: str) -> None:
    websocket = opened(max_message_bytes=10_000_000)
    ends = {"client": frame(CLOSE), "rule": frame(TEXT), "tunnel": b""}
    tracemalloc.start()
    try:
        collect(websocket, [frame(BINARY, bytes(5_000_000), fin=False), ends[end]])
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 100_000


def test_text_is_held_as_its_bytes() -> None:
    """Decoded, one character beyond the BMP makes four bytes of each."""
    websocket = opened(max_message_bytes=2_000_000)
    data = frame(TEXT, b"x" * 1_000_000 + "\U0001f30d".encode())
    ((message,), peak) = traced_peak(websocket, data)
    assert peak < 3_500_000
    assert isinstance(message, MessageOfBytes)
    assert message.data == "x" * 1_000_000 + "\U0001f30d"


def test_masks_are_undone_with_and_without_the_routine_in_c(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for size in (0, 1, 2, 3, 4, 5, 1000, 70_000):
        payload = bytes(range(256)) * (size // 256 + 1)
        for mask in (b"\x00\x00\x00\x00", b"\x01\x80\xfe\x37"):
            data = payload[:size]
            expected = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
            assert websocket_frames._unmask_in_python(data, mask) == expected
            assert bytes(websocket_frames._unmasking()(data, mask)) == expected
    websocket_frames._unmasking.cache_clear()
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    try:
        assert websocket_frames._unmasking() is websocket_frames._unmask_in_python
    finally:
        websocket_frames._unmasking.cache_clear()


@in_each_chunking
def test_the_mask_of_a_frame_is_removed(cut: Callable[[bytes], list[bytes]]) -> None:
    mask = b"\x01\x80\xfe\x37"
    payload = bytes(range(256)) * 10
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    data = bytes([0x80 | BINARY, 0x80 | 126]) + len(payload).to_bytes(2, "big") + mask + masked
    assert collect(opened(max_message_bytes=5000), cut(data))[0] == [Message(payload)]


# --- What somebody else writes --------------------------------------------------------------------

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    ("data", "may_close"),
    [
        (b"", False),
        (HEAD[:-1], False),
        (HEAD, True),
        (HEAD + b"\x81", False),
        (HEAD + b"\x81\x03ab", False),
        (HEAD + b"\x81\x03abc", True),
        (HEAD + b"\x81\x00\x82\x7e\x00", False),
        (HEAD + b"\x82\x7e\x01\x00" + bytes(255), False),
        (HEAD + b"\x82\x7e\x01\x00" + bytes(256), True),
        (HEAD + b"\x82\x7f" + (70_000).to_bytes(8, "big") + b"\x88" * 70_000, True),
        (HEAD + b"\x8a\x01x\x88\x02\x03\xe8", False),
        (HEAD + b"\x88\x00", False),
        (HEAD + b"\x88\x00\x81\x01x", False),
    ],
)
def test_where_a_close_frame_fits(data: bytes, step: int, *, may_close: bool) -> None:
    sent = SentFrames()
    for start in range(0, len(data), step):
        sent.feed(memoryview(data[start : start + step]))
    assert sent.may_close is may_close


# --- Whatever comes -------------------------------------------------------------------------------

_OPCODES = st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
_FRAMES = st.builds(
    frame, _OPCODES, st.binary(max_size=200), fin=st.booleans(), rsv=st.sampled_from([0, 0, 4, 1])
)


@given(
    chunks=st.lists(st.one_of(st.binary(min_size=1, max_size=300), _FRAMES)), deflate=st.booleans()
)
def test_whatever_comes_is_an_event(chunks: list[bytes], *, deflate: bool) -> None:
    """Messages, pongs, or one close; never an exception, and never more than the limit."""
    websocket = opened(deflate=deflate)
    events, answers = collect(websocket, chunks)
    split_frames(answers)
    for event in events:
        assert isinstance(event, MessageOfBytes | PongReceived | Closed)
        if isinstance(event, MessageOfBytes):
            data = event.data.encode() if isinstance(event.data, str) else event.data
            assert len(data) <= LIMIT_BYTES
        if isinstance(event, Closed):
            assert 1000 <= event.code <= 4999
    assert sum(isinstance(event, Closed) for event in events) <= 1


@given(st.dictionaries(st.sampled_from(sorted(HANDSHAKE)), st.text(st.characters(codec="latin-1"))))
def test_whatever_asks_is_accepted_or_refused(variables: dict[str, str]) -> None:
    with contextlib.suppress(HandshakeRefused):
        head_of(handshake(variables))


@given(text=st.text(max_size=200), cuts=st.lists(st.integers(0, 800), max_size=8), data=st.data())
def test_any_fragments_in_any_chunks_make_the_message(
    text: str, cuts: list[int], data: st.DataObject
) -> None:
    payload = text.encode()
    edges = [0, *sorted(cut for cut in cuts if cut <= len(payload)), len(payload)]
    pieces = [payload[a:b] for a, b in itertools.pairwise(edges)]
    stream = b"".join(
        frame(CONTINUATION if number else TEXT, piece, fin=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    )
    marks = sorted(data.draw(st.lists(st.integers(1, len(stream)), max_size=6)))
    ends = [0, *marks, len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(ends) if a < b]
    assert collect(opened(), chunks)[0] == [Message(text)]
