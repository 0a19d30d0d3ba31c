"""Any bytes in any pieces become a request, a documented refusal, or wait for more; nothing else."""

from __future__ import annotations

import itertools
import struct
from typing import TypeAlias

from hypothesis import example, given
from hypothesis import strategies as st

from uwsgibridge.protocol import answers, errors
from uwsgibridge.protocol.errors import MalformedPacket, ProtocolError, TooManyVars
from uwsgibridge.protocol.packet import (
    HEADER_BYTES,
    MODIFIER_PING,
    PING,
    Packet,
    PacketLimits,
    encode_packet,
    parse_packet,
)
from uwsgibridge.protocol.repeated_vars import SINGLE_VALUED
from uwsgibridge.protocol.request import Request

Pairs: TypeAlias = list[tuple[str, str]]
Outcome: TypeAlias = Packet | type[ProtocolError] | None

DOCUMENTED = {
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, ProtocolError) and one is not ProtocolError
}
DEFAULT_LIMITS = PacketLimits()
DROPPED = {b"proxy", b"transfer-encoding"}

KNOWN_NAMES = (
    "REQUEST_METHOD", "REQUEST_URI", "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING", "CONTENT_TYPE",
    "CONTENT_LENGTH", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_ADDR",
    "REMOTE_ADDR", "REMOTE_PORT", "REQUEST_SCHEME", "HTTPS", "HTTP_HOST", "HTTP_COOKIE", "HTTP_X",
    "SERVER_SOFTWARE", "UWSGI_SCHEME", "HTTP_REFERER", "HTTP_X_REAL_IP",
    "HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING",
    "UWSGI_FILE",
)  # fmt: skip
KNOWN_VALUES = (
    "", "GET", "HEAD", "/", "/app", "/app/x", "/caf\xc3\xa9", "/caf\xe9?x=1", "*", "0", "5", "05",
    "-1", "+1", " 1", "1_0", "\xb2", "9" * 18, "9" * 19, "443", "on", "https", "HTTP/2.0",
    "[::1]:80", "[::1", "example.com:80", "unix:", "192.0.2.1", "lighttpd/1.4.69", "?x=1", "off",
)  # fmt: skip

latin_1 = st.characters(max_codepoint=255)
names = st.sampled_from(KNOWN_NAMES) | st.text(latin_1, min_size=1, max_size=30)
values = st.sampled_from(KNOWN_VALUES) | st.text(latin_1, max_size=60)
vars_of_a_packet = st.lists(st.tuples(names, values), max_size=25)
modifiers = st.sampled_from([0, 30, 100])
limits_that_bite = st.builds(
    PacketLimits,
    max_vars_bytes=st.integers(1, 600) | st.just(65_535),
    max_vars=st.integers(1, 25) | st.just(1000),
)

valid_packets = st.builds(
    lambda pairs, modifier1, modifier2: encode_packet(
        pairs, modifier1=modifier1, modifier2=modifier2
    ),
    vars_of_a_packet,
    modifiers,
    st.integers(0, 255),
)


@st.composite
def mutated_packets(draw: st.DrawFn) -> bytes:
    """A valid packet with a few bytes changed, lost, inserted or repeated; often of true size."""
    data = bytearray(draw(valid_packets))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        piece = draw(st.binary(max_size=8) | st.just(bytes(data[start:end]) * 2))
        data[start:end] = piece
    if len(data) >= HEADER_BYTES and draw(st.booleans()):
        data[1:3] = struct.pack("<H", min(len(data) - HEADER_BYTES, 65_535))
    return bytes(data)


packets_of_any_vars = st.builds(
    lambda modifier1, payload: struct.pack("<BHB", modifier1, len(payload), 0) + payload,
    modifiers,
    st.binary(max_size=200),
)
any_input = st.binary(max_size=300) | packets_of_any_vars | valid_packets | mutated_packets()


def parse(data: bytes, limits: PacketLimits = DEFAULT_LIMITS) -> Outcome:
    """The packet, what refused it, or None; anything else that is raised fails the test."""
    try:
        return parse_packet(memoryview(data), limits)
    except ProtocolError as error:
        check_refusal(error)
        return type(error)


def check_refusal(error: ProtocolError) -> None:
    assert type(error) in DOCUMENTED
    assert error.status in {None, 400, 413, 431}
    assert error.reason
    assert error.option is None or error.option.startswith("--max-")
    answer = answers.refused(error, "GET")
    assert answer.status == (error.status or 0)
    assert bool(answer.data) is (error.status is not None)
    assert len(answer.data) < 2000


def check_request(packet: Packet, max_body_bytes: int) -> None:
    """What a host reads of a request is there and of its kind, whatever was sent."""
    try:
        request = Request(packet, max_body_bytes=max_body_bytes)
    except ProtocolError as error:
        check_refusal(error)
        return
    assert 0 <= request.content_length <= (max_body_bytes or 10**18)
    assert request.scheme
    assert request.http_version in {"1.0", "1.1", "2", "3"}
    assert request.client is None or 0 <= request.client[1] <= 99_999
    assert 0 <= request.server[1] <= 99_999
    assert request.server[0]
    assert request.path.startswith(request.root_path) or not request.path.isascii()
    request.path.encode()  # it is text, without halves of characters
    assert b"?" not in request.raw_path
    assert isinstance(request.method, str)
    assert request.query_string == request.vars["QUERY_STRING"].encode("latin-1")
    headers = request.header_pairs()
    found = [name for name, _ in headers]
    for name in found:
        assert name == name.decode("latin-1").lower().encode("latin-1")
        assert b"_" not in name
    assert not DROPPED & set(found)
    assert found.count(b"content-length") <= 1
    assert found.count(b"content-type") <= 1


@given(any_input, limits_that_bite, st.sampled_from([0, 1, 100]))
@example(encode_packet({"HTTP_content_length": "1", "CONTENT_LENGTH": "2"}), DEFAULT_LIMITS, 0)
@example(encode_packet({"HTTP_TRANSFER-ENCODING": "chunked"}), DEFAULT_LIMITS, 0)
@example(encode_packet({"CONTENT_LENGTH": "9" * 5000}), DEFAULT_LIMITS, 0)
def test_any_bytes_are_a_packet_or_refused(
    data: bytes, limits: PacketLimits, max_body_bytes: int
) -> None:
    outcome = parse(data, limits)
    if isinstance(outcome, Packet):
        assert HEADER_BYTES <= outcome.size_bytes <= min(len(data), limits.max_vars_bytes + 4)
        assert len(outcome.vars) <= limits.max_vars
        if outcome.modifier1 != MODIFIER_PING:
            check_request(outcome, max_body_bytes)


@given(any_input, limits_that_bite)
def test_any_pieces_of_a_packet_decide_as_the_whole(data: bytes, limits: PacketLimits) -> None:
    """Nothing is decided too early: what is said of a beginning holds for all that follows."""
    decided: Outcome = None
    for end in range(len(data) + 1):
        outcome = parse(data[:end], limits)
        if decided is None:
            decided = outcome
        else:
            assert outcome == decided
    assert parse(data + PING, limits) == decided or decided is None


@given(any_input)
def test_the_vars_are_those_of_a_plain_decoder(data: bytes) -> None:
    outcome = parse(data)
    if len(data) < HEADER_BYTES or data[0] not in {0, 30, 100}:
        assert not isinstance(outcome, Packet)
        return
    end = HEADER_BYTES + int.from_bytes(data[1:3], "little")
    if len(data) < end:
        assert outcome is None
        return
    pairs = decode_plainly(data[HEADER_BYTES:end])
    if pairs is None or any(not name for name, _ in pairs):
        assert outcome is MalformedPacket
    elif len(pairs) > DEFAULT_LIMITS.max_vars:
        assert outcome is TooManyVars
    else:
        assert outcome == Packet(data[0], told_once(pairs), end)


@given(vars_of_a_packet, modifiers, st.binary(max_size=40))
def test_what_is_encoded_is_what_is_parsed(pairs: Pairs, modifier1: int, behind: bytes) -> None:
    data = encode_packet(pairs, modifier1=modifier1)
    outcome = parse(data + behind)
    assert outcome == Packet(modifier1, told_once(pairs), len(data))
    assert isinstance(outcome, Packet)
    assert list(outcome.vars) == list(dict(pairs))


@given(vars_of_a_packet)
def test_a_request_keeps_every_header(pairs: Pairs) -> None:
    packet = parse(encode_packet([*pairs, ("CONTENT_LENGTH", "0")]))
    assert isinstance(packet, Packet)
    packet.vars["CONTENT_LENGTH"] = "0"
    expected = {
        name[5:].replace("_", "-").lower().encode("latin-1")
        for name in packet.vars
        if name.startswith("HTTP_")
    }
    found = {name for name, _ in Request(packet).header_pairs()}
    assert expected - found <= {*DROPPED, b"content-type", b"content-length"}
    assert found - expected <= {b"content-type", b"content-length"}


def decode_plainly(payload: bytes) -> Pairs | None:
    """The format once more, as it is described; None where a size runs past the end."""
    texts = []
    while payload:
        size = int.from_bytes(payload[:2], "little")
        if len(payload) < 2 + size:
            return None
        texts.append(payload[2 : 2 + size].decode("latin-1"))
        payload = payload[2 + size :]
    if len(texts) % 2:
        return None
    return list(zip(texts[::2], texts[1::2], strict=True))


def told_once(pairs: Pairs) -> dict[str, str]:
    """The rule for repeated vars in other words: a name's values in the parts of a packet."""
    if any(name == "SERVER_SOFTWARE" and it.startswith("lighttpd/") for name, it in pairs):
        return dict(pairs)
    last_first = pairs[::-1]
    params = [*itertools.dropwhile(lambda pair: pair[0].startswith("HTTP_"), last_first)]
    of_a_client = [
        *itertools.takewhile(
            lambda pair: pair[0].startswith("HTTP_") and pair[0] != "HTTP_HOST", last_first
        )
    ][::-1]
    told = {}
    for name, _ in pairs:
        values = [value for other, value in pairs if other == name]
        repeated = [value for other, value in of_a_client if other == name]
        if name in SINGLE_VALUED or name in dict(params) or not repeated:
            told[name] = values[-1]
        else:
            before = values[: len(values) - len(repeated)][-1:]
            told[name] = ("; " if name == "HTTP_COOKIE" else ", ").join(before + repeated)
    return told
