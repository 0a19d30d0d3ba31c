"""Every rule for frames of RFC 6455, sections 4 to 7, and of RFC 7692, through Nginx.

The peers are the `websockets` library and a client that writes its own frames, right and wrong ones.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import websockets.exceptions
from websockets.sync.client import ClientConnection, connect

from integration.asgi.conftest import on_asyncio_alone
from integration.asgi.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    Close,
    Frame,
    FrameClient,
    encode_frame,
    fragments,
    offer,
)
from integration.wsgi.fetching import fetch
from uwsgibridge.testing import event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

MIB = 1024 * 1024
LIMIT_BYTES = 16 * MIB

SNOWMEN = "\u2603 and \U0001f30d"

numbers = itertools.count()


@pytest.fixture
def path() -> str:
    """Where messages are repeated, and where the log tells of this test alone."""
    return f"/echo/{next(numbers)}"


@pytest.fixture
def talk(behaviours: LocalStack, path: str) -> Iterator[FrameClient]:
    """A WebSocket of whose frames each byte is the test's own."""
    with FrameClient(behaviours.url, path) as client:
        assert client.status == 101
        yield client


@pytest.fixture
def peer(behaviours: LocalStack, path: str) -> Iterator[ClientConnection]:
    """The same with the `websockets` library, which offers compression."""
    url = behaviours.url.replace("http", "ws") + path
    with connect(url, proxy=None, max_size=2 * LIMIT_BYTES) as connection:
        yield connection


def assert_closed(client: FrameClient, code: int) -> None:
    """See the server close with a frame, and then close the connection, too."""
    frame = client.receive()
    assert frame is not None, "the connection ended without a close frame"
    assert frame.opcode == CLOSE, frame
    assert Close.parse(frame.payload).code == code
    assert client.ends(), "the server closes the connection (section 7.1.1)"


def assert_repeats(client: FrameClient, text: str = "still there") -> None:
    client.send(TEXT, text.encode())
    assert client.receive() == Frame(TEXT, text.encode())


def wait_for_disconnect(stack: LocalStack, path: str) -> str:
    """Give what the application was told of the end."""
    event = stack.wait_for_event(
        lambda event: event.get("path") == path and "disconnect" in str(event.get("told"))
    )
    return str(event["told"])


# --- Sizes and fragments (sections 5.2, 5.4 and 5.6) ----------------------------------------------

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, MIB]


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_each_size_come_back(talk: FrameClient, size: int) -> None:
    payload = (b"0123456789" * (size // 10 + 1))[:size]
    for opcode in (TEXT, BINARY):
        talk.send(opcode, payload)
        assert talk.receive() == Frame(opcode, payload)


@on_asyncio_alone
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_the_largest_size_comes_back(talk: FrameClient, opcode: int) -> None:
    payload = bytes(LIMIT_BYTES)
    talk.send(opcode, payload)
    assert talk.receive() == Frame(opcode, payload)


@pytest.mark.parametrize(
    "sizes",
    [(1,), (0,), (0, 0, 0), (1, 1, 1, 1, 1), (100,), (2, 0, 3)],
    ids=str,
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_fragments_are_joined(talk: FrameClient, opcode: int, sizes: tuple[int, ...]) -> None:
    """Characters may be cut in two (section 5.6)."""
    payload = SNOWMEN.encode()
    *first, last = fragments(payload, sizes)
    for piece in first:
        talk.send(opcode, piece, fin=False)
        opcode = CONTINUATION
    talk.send(opcode, last)
    frame = talk.receive()
    assert frame is not None
    assert frame.payload == payload


def test_empty_fragments_make_an_empty_message(talk: FrameClient) -> None:
    talk.send(TEXT, fin=False)
    for _ in range(3):
        talk.send(CONTINUATION, fin=False)
    talk.send(CONTINUATION)
    assert talk.receive() == Frame(TEXT, b"")
    assert_repeats(talk)


def test_many_fragments_make_one_message(talk: FrameClient) -> None:
    payload = bytes(range(256)) * 64
    frames = [encode_frame(BINARY, fin=False)]
    frames += [
        encode_frame(CONTINUATION, payload[i : i + 1], fin=False) for i in range(len(payload))
    ]
    talk.send_bytes(b"".join([*frames, encode_frame(CONTINUATION)]))
    assert talk.receive() == Frame(BINARY, payload)


@on_asyncio_alone
def test_frames_that_arrive_byte_by_byte_are_read(talk: FrameClient) -> None:
    stream = b"".join(
        (
            encode_frame(TEXT, SNOWMEN.encode()[:2], fin=False),
            encode_frame(PING, b"between"),
            encode_frame(CONTINUATION, SNOWMEN.encode()[2:]),
            encode_frame(BINARY, bytes(200)),
        )
    )
    for number in range(len(stream)):
        talk.send_bytes(stream[number : number + 1])
    assert talk.receive() == Frame(PONG, b"between")
    assert talk.receive() == Frame(TEXT, SNOWMEN.encode())
    assert talk.receive() == Frame(BINARY, bytes(200))
    for byte in encode_frame(CLOSE, Close(4000, "bye").payload):
        talk.send_bytes(bytes([byte]))
    assert_closed(talk, 4000)


def test_frames_that_come_with_the_handshake(behaviours: LocalStack, path: str) -> None:
    early = encode_frame(TEXT, b"early") + encode_frame(PING, b"early, too")
    with FrameClient(behaviours.url, path, early=early) as client:
        frames = {client.receive(), client.receive()}
        assert frames == {Frame(TEXT, b"early"), Frame(PONG, b"early, too")}


# --- Control frames (section 5.5) -----------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"ping", bytes(range(125))], ids=len)
def test_a_ping_is_answered_with_its_payload(talk: FrameClient, payload: bytes) -> None:
    talk.send(PING, payload)
    assert talk.receive() == Frame(PONG, payload)


def test_pings_are_answered_in_their_order(talk: FrameClient) -> None:
    talk.send_bytes(b"".join(encode_frame(PING, b"%d" % number) for number in range(50)))
    for number in range(50):
        assert talk.receive() == Frame(PONG, b"%d" % number)


def test_a_pong_that_nobody_asked_for_is_ignored(talk: FrameClient) -> None:
    talk.send(PONG, b"unasked")
    assert_repeats(talk)


def test_control_frames_between_fragments_are_answered_at_once(talk: FrameClient) -> None:
    """They are answered at once, not when the message is over."""
    talk.send(TEXT, b"one ", fin=False)
    talk.send(PING, b"amid")
    assert talk.receive() == Frame(PONG, b"amid")
    talk.send(PONG)
    talk.send(CONTINUATION, b"two ", fin=False)
    talk.send(PING, b"again")
    assert talk.receive() == Frame(PONG, b"again")
    talk.send(CONTINUATION, b"three")
    assert talk.receive() == Frame(TEXT, b"one two three")


def test_a_close_between_fragments_is_answered(
    behaviours: LocalStack, talk: FrameClient, path: str
) -> None:
    talk.send(TEXT, b"never ", fin=False)
    talk.send(CLOSE, Close(1001).payload)
    assert_closed(talk, 1001)
    assert wait_for_disconnect(behaviours, path) == "disconnect 1001"


# --- Broken rules ---------------------------------------------------------------------------------

TOO_LONG = bytes(126)
VALID = "\u2603".encode()

BROKEN_RULES: dict[str, tuple[int, bytes]] = {
    # Section 5.2: reserved bits.
    **{
        f"rsv{number}-on-{name}": (1002, encode_frame(opcode, b"", rsv=bit))
        for number, bit in ((1, RSV1), (2, RSV2), (3, RSV3))
        for name, opcode in (("text", TEXT), ("binary", BINARY), ("ping", PING), ("close", CLOSE))
    },
    "rsv1-on-a-continuation": (
        1002,
        encode_frame(TEXT, b"a", fin=False) + encode_frame(CONTINUATION, b"b", rsv=RSV1),
    ),
    # Section 5.2: reserved opcodes.
    **{
        f"opcode-{opcode}": (1002, encode_frame(opcode, b"what is it?"))
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "opcode-3-amid-a-message": (
        1002,
        encode_frame(TEXT, b"a", fin=False) + encode_frame(3, b"b"),
    ),
    # Section 5.1: a client's frames are masked.
    "unmasked-text": (1002, encode_frame(TEXT, b"bare", masked=False)),
    "unmasked-and-empty": (1002, encode_frame(BINARY, masked=False)),
    "unmasked-ping": (1002, encode_frame(PING, masked=False)),
    "unmasked-close": (1002, encode_frame(CLOSE, Close(1000).payload, masked=False)),
    # Section 5.2: the shortest form of a length, and no more than 63 bits.
    "length-125-in-2-bytes": (1002, encode_frame(TEXT, bytes(125), length_bytes=2)),
    "length-125-in-8-bytes": (1002, encode_frame(TEXT, bytes(125), length_bytes=8)),
    "length-65535-in-8-bytes": (1002, encode_frame(TEXT, bytes(65_535), length_bytes=8)),
    "length-of-64-bits": (1002, encode_frame(TEXT, b"", declared_bytes=1 << 63)),
    # Section 5.5: control frames are short, and whole.
    "ping-of-126-bytes": (1002, encode_frame(PING, TOO_LONG)),
    "pong-of-126-bytes": (1002, encode_frame(PONG, TOO_LONG)),
    "close-of-126-bytes": (1002, encode_frame(CLOSE, Close(1000).payload + bytes(124))),
    "fragmented-ping": (1002, encode_frame(PING, b"half", fin=False)),
    "fragmented-pong": (1002, encode_frame(PONG, b"half", fin=False)),
    "fragmented-close": (1002, encode_frame(CLOSE, Close(1000).payload, fin=False)),
    # Section 5.4: fragments.
    "continuation-of-nothing": (1002, encode_frame(CONTINUATION, b"of what?")),
    "continuation-of-nothing-and-more": (1002, encode_frame(CONTINUATION, b"of what?", fin=False)),
    "text-amid-text": (1002, encode_frame(TEXT, b"a", fin=False) + encode_frame(TEXT, b"b")),
    "binary-amid-text": (1002, encode_frame(TEXT, b"a", fin=False) + encode_frame(BINARY, b"b")),
    # Section 8.1: text is UTF-8, and what is not is known before the message's end.
    "invalid-utf-8": (1007, encode_frame(TEXT, b"\xff")),
    "overlong-utf-8": (1007, encode_frame(TEXT, b"\xc0\xaf")),
    "surrogate-in-utf-8": (1007, encode_frame(TEXT, b"\xed\xa0\x80")),
    "beyond-unicode": (1007, encode_frame(TEXT, b"\xf4\x90\x80\x80")),
    "invalid-utf-8-before-the-last-fragment": (1007, encode_frame(TEXT, b"a\xff", fin=False)),
    "invalid-utf-8-in-a-later-fragment": (
        1007,
        encode_frame(TEXT, b"a", fin=False) + encode_frame(CONTINUATION, b"\xff", fin=False),
    ),
    "invalid-utf-8-across-fragments": (
        1007,
        encode_frame(TEXT, VALID[:1], fin=False) + encode_frame(CONTINUATION, b"a", fin=False),
    ),
    "invalid-utf-8-before-the-end-of-a-frame": (
        1007,
        encode_frame(TEXT, b"a\xff and so on", declared_bytes=100_000),
    ),
    "incomplete-utf-8": (1007, encode_frame(TEXT, b"a" + VALID[:2])),
    "incomplete-utf-8-after-fragments": (
        1007,
        encode_frame(TEXT, b"a", fin=False) + encode_frame(CONTINUATION, VALID[:2]),
    ),
    # Section 5.5.1 and 7.4: close frames.
    "close-of-1-byte": (1002, encode_frame(CLOSE, b"\x03")),
    "close-reason-that-is-not-utf-8": (1007, encode_frame(CLOSE, b"\x03\xe8\xff")),
    **{
        f"close-code-{code}": (1002, encode_frame(CLOSE, Close(code).payload))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
}


@pytest.mark.parametrize(("code", "sent"), BROKEN_RULES.values(), ids=BROKEN_RULES)
def test_a_broken_rule_closes(
    behaviours: LocalStack, talk: FrameClient, path: str, code: int, sent: bytes
) -> None:
    talk.send_bytes(sent)
    assert_closed(talk, code)
    assert wait_for_disconnect(behaviours, path).startswith(f"disconnect {code} ")


def test_what_came_before_a_broken_rule_counts(
    behaviours: LocalStack, talk: FrameClient, path: str
) -> None:
    assert_repeats(talk)
    talk.send(PING, b"before")
    assert talk.receive() == Frame(PONG, b"before")
    talk.send(TEXT, b"bare", masked=False)
    assert_closed(talk, 1002)
    assert wait_for_disconnect(behaviours, path).startswith("disconnect 1002")


@pytest.mark.parametrize("more", [b"x" * 1000, b"x" * 8 * MIB], ids=len)
def test_the_close_frame_arrives_whatever_else_is_on_its_way(
    behaviours: LocalStack, path: str, more: bytes
) -> None:
    """A close with unread input resets the connection, and the frame might be lost with it."""
    with FrameClient(behaviours.url, path) as client:
        with contextlib.suppress(OSError):
            client.send_bytes(encode_frame(TEXT, b"bare", masked=False) + more)
        assert_closed(client, 1002)


# --- The closing handshake (section 7) ------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        1000,
        1001,
        1002,
        1003,
        1007,
        1008,
        1009,
        1010,
        1011,
        1012,
        1013,
        1014,
        3000,
        3999,
        4000,
        4999,
    ],
)
def test_a_valid_code_comes_back(
    behaviours: LocalStack, talk: FrameClient, path: str, code: int
) -> None:
    talk.send(CLOSE, Close(code, "because \u2603").payload)
    assert_closed(talk, code)
    assert wait_for_disconnect(behaviours, path) == f"disconnect {code} because \u2603"


def test_no_code_comes_back_as_none(behaviours: LocalStack, talk: FrameClient, path: str) -> None:
    talk.send(CLOSE)
    frame = talk.receive()
    assert frame is not None
    assert (frame.opcode, frame.payload) == (CLOSE, b"")
    assert talk.ends()
    assert wait_for_disconnect(behaviours, path) == "disconnect 1005"


def test_the_longest_reason_of_a_close_is_answered(talk: FrameClient) -> None:
    talk.send(CLOSE, Close(4000, "\u2603" * 41).payload)
    assert_closed(talk, 4000)


def test_frames_after_a_close_are_not_looked_at(
    behaviours: LocalStack, talk: FrameClient, path: str
) -> None:
    closing = encode_frame(CLOSE, Close(1000).payload)
    talk.send_bytes(
        closing + encode_frame(TEXT, b"late") + encode_frame(PING) + encode_frame(TEXT, b"\xff")
    )
    assert_closed(talk, 1000)
    assert wait_for_disconnect(behaviours, path) == "disconnect 1000"


def test_a_client_may_go_on_until_it_closes_too(behaviours: LocalStack) -> None:
    """After the server's close frame, what the client had on its way is read and forgotten."""
    with FrameClient(behaviours.url, f"/repeats/{next(numbers)}") as client:
        for text in (b"one", b"two"):
            client.send(TEXT, text)
            assert client.receive() == Frame(TEXT, text)
        frame = client.receive()
        assert frame is not None
        assert frame.opcode == CLOSE
        client.send(TEXT, b"on its way")
        client.send(PING, b"on its way")
        client.send(CLOSE, frame.payload)
        # No pong: nothing follows a close frame (section 5.5.1).
        assert client.ends()


# --- Too much -------------------------------------------------------------------------------------


@on_asyncio_alone
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_is_too_big(
    behaviours: LocalStack, talk: FrameClient, path: str, opcode: int
) -> None:
    talk.send(opcode, bytes(LIMIT_BYTES + 1))
    assert_closed(talk, 1009)
    told = wait_for_disconnect(behaviours, path)
    assert told == f"disconnect 1009 a message is over {LIMIT_BYTES} bytes"


@on_asyncio_alone
def test_fragments_that_are_too_big_together(talk: FrameClient) -> None:
    talk.send(TEXT, "\u2603".encode() * (MIB // 3), fin=False)
    for _ in range(15):
        talk.send(CONTINUATION, "\u2603".encode() * (MIB // 3), fin=False)
    talk.send(CONTINUATION, "\u2603".encode() * 6, fin=False)
    assert_closed(talk, 1009)


@on_asyncio_alone
def test_a_length_that_is_too_big_is_refused_before_the_end(talk: FrameClient) -> None:
    talk.send(BINARY, bytes(LIMIT_BYTES + 1), declared_bytes=1 << 40)
    assert_closed(talk, 1009)


# --- permessage-deflate (RFC 7692) ----------------------------------------------------------------

NO_TAKEOVER = {"server_no_context_takeover", "client_no_context_takeover"}


def deflate(data: bytes, *, window_bits: int = 15) -> bytes:
    """Compress a message (section 7.2.1)."""
    squeeze = zlib.compressobj(wbits=-window_bits)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
        b"\x00\x00\xff\xff"
    )


def inflate(data: bytes, *, window_bits: int = 15) -> bytes:
    """Undo it (section 7.2.2); each message by itself, as agreed."""
    return zlib.decompress(data + b"\x00\x00\xff\xff\x03\x00", wbits=-window_bits)


def assert_compressed(frame: Frame | None, opcode: int, data: bytes, **options: int) -> None:
    assert frame is not None
    assert (frame.opcode, frame.rsv, frame.fin) == (opcode, RSV1, True)
    assert inflate(frame.payload, **options) == data


@pytest.fixture
def squeezed(behaviours: LocalStack, path: str) -> Iterator[FrameClient]:
    with FrameClient(behaviours.url, path, headers=offer("permessage-deflate")) as client:
        assert "permessage-deflate" in client.headers["Sec-WebSocket-Extensions"]
        yield client


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ("permessage-deflate", NO_TAKEOVER),
        ("permessage-deflate; client_no_context_takeover", NO_TAKEOVER),
        ("permessage-deflate; server_no_context_takeover", NO_TAKEOVER),
        ("permessage-deflate; client_max_window_bits", {*NO_TAKEOVER, "client_max_window_bits=15"}),
        (
            "permessage-deflate; client_max_window_bits=9",
            {*NO_TAKEOVER, "client_max_window_bits=9"},
        ),
        (
            "permessage-deflate; server_max_window_bits=10",
            {*NO_TAKEOVER, "server_max_window_bits=10"},
        ),
        (
            "permessage-deflate; client_max_window_bits=12; server_max_window_bits=11",
            {*NO_TAKEOVER, "client_max_window_bits=12", "server_max_window_bits=11"},
        ),
        ("x-webkit-deflate-frame, permessage-deflate", NO_TAKEOVER),
        # zlib can't do 8; the next offer can be met.
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", NO_TAKEOVER),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=ten", None),
        ("permessage-deflate; nobody_knows_this", None),
        ("x-webkit-deflate-frame", None),
    ],
)
def test_what_is_agreed_to(
    behaviours: LocalStack, path: str, offered: str, agreed: set[str] | None
) -> None:
    with FrameClient(behaviours.url, path, headers=offer(offered)) as client:
        assert client.status == 101
        answer = client.headers["Sec-WebSocket-Extensions"]
        if agreed is None:
            assert answer is None
            assert_repeats(client)
            return
        name, *parameters = (part.strip() for part in answer.split(";"))
        assert name == "permessage-deflate"
        assert set(parameters) == agreed
        # Whatever was agreed to is kept to.
        bits = {key: int(value) for key, _, value in (it.partition("=") for it in agreed) if value}
        data = b"compressible " * 1000
        client.send(
            TEXT, deflate(data, window_bits=bits.get("client_max_window_bits", 15)), rsv=RSV1
        )
        window_bits = bits.get("server_max_window_bits", 15)
        assert_compressed(client.receive(), TEXT, data, window_bits=window_bits)


def test_compressed_messages_stand_alone(squeezed: FrameClient) -> None:
    for data in (b"", b"once", b"once", b"x" * 100_000, SNOWMEN.encode()):
        squeezed.send(TEXT, deflate(data), rsv=RSV1)
        assert_compressed(squeezed.receive(), TEXT, data)


def test_messages_may_be_uncompressed(squeezed: FrameClient) -> None:
    squeezed.send(BINARY, b"as it is")
    assert_compressed(squeezed.receive(), BINARY, b"as it is")
    squeezed.send(BINARY, deflate(b"compressed"), rsv=RSV1)
    assert_compressed(squeezed.receive(), BINARY, b"compressed")


def test_a_compressed_message_in_fragments_is_read(squeezed: FrameClient) -> None:
    first, second, third = fragments(deflate(SNOWMEN.encode() * 10), (3, 5))
    squeezed.send(TEXT, first, fin=False, rsv=RSV1)
    squeezed.send(CONTINUATION, second, fin=False)
    squeezed.send(CONTINUATION, third)
    assert_compressed(squeezed.receive(), TEXT, SNOWMEN.encode() * 10)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_control_frames_amid_a_compressed_message_are_answered(
    squeezed: FrameClient, opcode: int
) -> None:
    """They are never compressed (section 6.1)."""
    first, second = fragments(deflate(b"0123456789" * 10), (6,))
    squeezed.send(opcode, first, fin=False, rsv=RSV1)
    squeezed.send(PING, b"amid")
    assert squeezed.receive() == Frame(PONG, b"amid")
    squeezed.send(CONTINUATION, second)
    assert_compressed(squeezed.receive(), opcode, b"0123456789" * 10)


def test_blocks_of_other_kinds_are_inflated(squeezed: FrameClient) -> None:
    """The examples of sections 7.2.3.3 to 7.2.3.6."""
    for example in (
        "00 05 00 fa ff 48 65 6c 6c 6f 00",
        "f3 48 cd c9 c9 07 00 00",
        "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
    ):
        squeezed.send(TEXT, bytes.fromhex(example), rsv=RSV1)
        assert_compressed(squeezed.receive(), TEXT, b"Hello")


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (1007, encode_frame(TEXT, b"\xff\xff\xff", rsv=RSV1)),
        (1007, encode_frame(TEXT, deflate(b"\xff"), rsv=RSV1)),
        (1002, encode_frame(PING, b"", rsv=RSV1)),
        (1002, encode_frame(CLOSE, Close(1000).payload, rsv=RSV1)),
        (
            1002,
            encode_frame(TEXT, deflate(b"a"), fin=False, rsv=RSV1)
            + encode_frame(CONTINUATION, b"", rsv=RSV1),
        ),
        (1002, encode_frame(TEXT, deflate(b"a"), rsv=RSV1 | RSV2)),
    ],
    ids=["no-deflate-data", "no-utf-8", "ping", "close", "continuation", "rsv2"],
)
def test_a_broken_rule_of_compression_closes_the_websocket(
    squeezed: FrameClient, code: int, sent: bytes
) -> None:
    squeezed.send_bytes(sent)
    assert_closed(squeezed, code)


@on_asyncio_alone
def test_a_small_message_that_becomes_too_big(squeezed: FrameClient) -> None:
    squeezed.send(BINARY, deflate(bytes(LIMIT_BYTES + 1)), rsv=RSV1)
    assert_closed(squeezed, 1009)


# --- The opening handshake (section 4.2) ----------------------------------------------------------

REFUSED: dict[str, tuple[int, dict[str, str | None], str, str]] = {
    "version-8": (426, {"Sec-WebSocket-Version": "8"}, "GET", "HTTP/1.1"),
    "no-version": (426, {"Sec-WebSocket-Version": None}, "GET", "HTTP/1.1"),
    "no-key": (400, {"Sec-WebSocket-Key": None}, "GET", "HTTP/1.1"),
    "empty-key": (400, {"Sec-WebSocket-Key": ""}, "GET", "HTTP/1.1"),
    "short-key": (400, {"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2Rl"}, "GET", "HTTP/1.1"),
    "key-not-in-base64": (400, {"Sec-WebSocket-Key": "?" * 24}, "GET", "HTTP/1.1"),
    "post": (400, {}, "POST", "HTTP/1.1"),
    "http-1.0": (400, {}, "GET", "HTTP/1.0"),
    "no-connection-upgrade": (400, {"Connection": "keep-alive"}, "GET", "HTTP/1.1"),
}


@pytest.mark.parametrize(("status", "headers", "method", "version"), REFUSED.values(), ids=REFUSED)
def test_a_handshake_that_is_refused(
    behaviours: LocalStack,
    path: str,
    status: int,
    headers: dict[str, str | None],
    method: str,
    version: str,
) -> None:
    with FrameClient(
        behaviours.url, path, headers=headers, method=method, version=version
    ) as client:
        assert client.status == status
        assert b"WebSocket" in client.body
        if status == 426:
            assert client.headers["Sec-WebSocket-Version"] == "13"
    event = behaviours.wait_for_event(event_with(event="refused", path=path))
    assert event["reason"] == "websocket_handshake"
    assert event["status"] == status
    assert str(event["detail"]).encode() in client.body


def test_a_refused_post_may_have_a_body(behaviours: LocalStack, path: str) -> None:
    body = bytes(300_000)
    with FrameClient(
        behaviours.url, path, headers={"Content-Length": str(len(body))}, method="POST", body=body
    ) as client:
        assert client.status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "UPGRADE"},
        {"Upgrade": "WebSocket"},
        {"Origin": "http://example.org", "Cookie": "a=1"},
    ],
    ids=str,
)
def test_handshakes_of_browsers_are_accepted(
    behaviours: LocalStack, path: str, headers: dict[str, str | None]
) -> None:
    with FrameClient(behaviours.url, path, headers=headers) as client:
        assert client.status == 101
        assert_repeats(client)


def test_another_upgrade_is_an_ordinary_request(behaviours: LocalStack) -> None:
    answer = fetch(
        f"{behaviours.url}/scope", headers=[("Upgrade", "h2c"), ("Connection", "Upgrade")]
    )
    assert answer.seen == 200


def test_wsgi_has_no_websockets(behaviours: LocalStack) -> None:
    with FrameClient(behaviours.url, "/wsgi/echo") as client:
        assert client.status == 400
        assert b"WSGI" in client.body
    event = behaviours.wait_for_event(event_with(event="refused", path="/wsgi/echo"))
    assert "WSGI" in str(event["detail"])
    assert fetch(f"{behaviours.url}/wsgi/plain").body == b"plain"


# --- The `websockets` library as the peer ---------------------------------------------------------


def test_the_messages_of_a_peer_come_back(peer: ClientConnection) -> None:
    for message in ("", SNOWMEN, b"", bytes(range(256)), "x" * 100_000):
        peer.send(message)
        assert peer.recv() == message


def test_the_fragments_of_a_peer_come_back_as_one_message(peer: ClientConnection) -> None:
    peer.send(iter(["in ", "three ", "fragments"]))
    assert peer.recv() == "in three fragments"
    peer.send(iter([b"", bytes(100_000), b"\xff"]))
    assert peer.recv() == bytes(100_000) + b"\xff"


def test_the_pings_of_a_peer_are_answered(peer: ClientConnection) -> None:
    assert peer.ping().wait(20)
    assert peer.ping(b"with a payload").wait(20)


def test_a_peer_that_closes(behaviours: LocalStack, peer: ClientConnection, path: str) -> None:
    peer.close(4000, "done")
    assert (peer.close_code, peer.close_reason) == (4000, "done")
    assert wait_for_disconnect(behaviours, path) == "disconnect 4000 done"


def test_a_peer_that_is_closed(behaviours: LocalStack) -> None:
    url = behaviours.url.replace("http", "ws") + "/closes-with-a-code-and-a-reason/peer"
    with (
        connect(url, proxy=None) as peer,
        pytest.raises(websockets.exceptions.ConnectionClosed) as raised,
    ):
        peer.recv()
    assert raised.value.rcvd is not None
    assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (4000, "enough")
    assert raised.value.sent is not None


def test_a_peer_gets_the_chosen_subprotocol(behaviours: LocalStack) -> None:
    url = behaviours.url.replace("http", "ws") + "/chooses-a-subprotocol/peer"
    names = [websockets.Subprotocol(name) for name in ("chat", "superchat")]
    with connect(url, proxy=None, subprotocols=names) as peer:
        assert peer.subprotocol == "superchat"


def test_a_peer_that_is_denied(behaviours: LocalStack) -> None:
    url = behaviours.url.replace("http", "ws") + "/denies-with-an-answer/peer"
    with pytest.raises(websockets.exceptions.InvalidStatus) as raised, connect(url, proxy=None):
        pass
    assert raised.value.response.status_code == 401
    assert raised.value.response.body == b"who are you?"


@on_asyncio_alone
@pytest.mark.parametrize("compression", ["deflate", None])
def test_large_messages_of_a_peer_come_back(
    behaviours: LocalStack, path: str, compression: str | None
) -> None:
    message = struct.pack(f">{MIB // 2}I", *range(MIB // 2))
    url = behaviours.url.replace("http", "ws") + path
    with connect(url, proxy=None, compression=compression, max_size=None) as peer:
        peer.send(message)
        assert peer.recv() == message
