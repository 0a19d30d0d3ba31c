"""The packet codec: what is taken, what is refused and how early, however the bytes arrive."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from uwsgibridge.protocol.errors import (
    HttpNotUwsgi,
    MalformedPacket,
    ProtocolError,
    TlsNotUwsgi,
    TooManyVars,
    UnsupportedModifier,
)
from uwsgibridge.protocol.packet import (
    HEADER_BYTES,
    MAX_VARS_BYTES,
    MODIFIER_PING,
    MODIFIER_REQUEST,
    MODIFIER_REQUEST_STRIP_SCRIPT_NAME,
    PING,
    PONG,
    Packet,
    PacketLimits,
    encode_packet,
    parse_packet,
)

LIMITS = PacketLimits()
ACCEPTED = (MODIFIER_REQUEST, MODIFIER_REQUEST_STRIP_SCRIPT_NAME, MODIFIER_PING)
SECOND_PACKET = encode_packet({"PATH_INFO": "/second"})

Parse = Callable[..., Packet | None]


def parse(data: bytes, limits: PacketLimits = LIMITS) -> Packet | None:
    return parse_packet(memoryview(data), limits)


def parse_byte_by_byte(data: bytes, limits: PacketLimits = LIMITS) -> Packet | None:
    view = memoryview(data)
    for end in range(len(data)):
        early = parse_packet(view[:end], limits)
        assert early is None, f"a packet of {len(data)} bytes was made of {end}"
    return parse_packet(view, limits)


def parse_with_trailing_data(data: bytes, limits: PacketLimits = LIMITS) -> Packet | None:
    return parse(data + SECOND_PACKET + b"\r\n\x00\xff", limits)


@pytest.fixture(
    params=[parse, parse_byte_by_byte, parse_with_trailing_data],
    ids=["whole", "byte-by-byte", "trailing"],
)
def parse_chunked(request: pytest.FixtureRequest) -> Parse:
    chunked: Parse = request.param
    return chunked


def packet_of(payload: bytes, modifier1: int = 0) -> bytes:
    return struct.pack("<BHB", modifier1, len(payload), 0) + payload


def sized(text: bytes) -> bytes:
    return struct.pack("<H", len(text)) + text


def bytes_until_refused(data: bytes, limits: PacketLimits = LIMITS) -> tuple[int, ProtocolError]:
    """Feed byte by byte; how many it took until the refusal, and which it was."""
    for end in range(len(data) + 1):
        try:
            assert parse(data[:end], limits) is None
        except ProtocolError as error:
            return end, error
    raise AssertionError("it was never refused")


class TestPackets:
    @pytest.mark.parametrize("modifier1", [0, 30])
    def test_a_request_of_nginx_is_parsed(self, parse_chunked, modifier1) -> None:
        variables = {
            "QUERY_STRING": "a=1&b=%20",
            "REQUEST_METHOD": "GET",
            "CONTENT_TYPE": "",
            "CONTENT_LENGTH": "",
            "REQUEST_URI": "/caf%C3%A9?a=1&b=%20",
            "PATH_INFO": "/café".encode().decode("latin-1"),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "example.com:8080",
        }
        data = encode_packet(variables, modifier1=modifier1)
        packet = parse_chunked(data)
        assert packet == Packet(modifier1, variables, len(data))
        assert list(packet.vars) == list(variables)  # in the order of the wire

    def test_the_bytes_are_those_of_the_format(self, parse_chunked) -> None:
        data = b"\x00\x0d\x00\x00" + b"\x03\x00KEY\x06\x00\x00\r\n\xff  "
        assert parse_chunked(data) == Packet(0, {"KEY": "\x00\r\n\xff  "}, 17)

    def test_a_packet_may_have_no_vars(self, parse_chunked) -> None:
        assert parse_chunked(b"\x00\x00\x00\x00") == Packet(0, {}, 4)

    def test_a_value_may_be_empty(self, parse_chunked) -> None:
        assert parse_chunked(packet_of(sized(b"A") + sized(b""))).vars == {"A": ""}

    def test_all_bytes_are_kept_as_latin_1(self, parse_chunked) -> None:
        every = bytes(range(256))
        packet = parse_chunked(packet_of(sized(every) + sized(every[::-1])))
        ((key, value),) = packet.vars.items()
        assert key.encode("latin-1") == every
        assert value.encode("latin-1") == every[::-1]

    def test_the_largest_packet_is_parsed(self, parse_chunked) -> None:
        data = encode_packet({"A": "x" * (MAX_VARS_BYTES - 5)})
        packet = parse_chunked(data)
        assert packet.size_bytes == len(data) == HEADER_BYTES + 65_535
        assert len(packet.vars["A"]) == 65_530

    def test_modifier2_says_nothing_to_us(self, parse_chunked) -> None:
        assert parse_chunked(encode_packet({"A": "b"}, modifier2=255)).vars == {"A": "b"}

    def test_what_follows_is_not_part_of_it(self) -> None:
        """A body that holds a second packet must never be taken for a request."""
        first = encode_packet({"PATH_INFO": "/first"})
        packet = parse(first + SECOND_PACKET)
        assert packet is not None
        assert packet.vars == {"PATH_INFO": "/first"}
        assert packet.size_bytes == len(first)

    def test_the_buffer_is_free_again_afterwards(self) -> None:
        buffer = bytearray(encode_packet({"NAME": "value"}))
        with memoryview(buffer) as view:
            packet = parse_packet(view, LIMITS)
        buffer[:] = bytes(len(buffer))
        buffer.clear()  # raises BufferError while anything refers to it
        assert packet is not None
        assert packet.vars == {"NAME": "value"}

    def test_nothing_has_arrived(self) -> None:
        assert parse(b"") is None


class TestPing:
    def test_the_bytes_are_those_of_uwsgi(self) -> None:
        assert PING == b"\x64\x00\x00\x00"
        assert PONG == b"\x64\x00\x00\x01"

    def test_it_is_a_packet_without_vars(self, parse_chunked) -> None:
        assert parse_chunked(PING) == Packet(MODIFIER_PING, {}, 4)

    def test_its_vars_are_checked_as_any(self, parse_chunked) -> None:
        assert parse_chunked(encode_packet({"A": "b"}, modifier1=100)).vars == {"A": "b"}
        with pytest.raises(MalformedPacket):
            parse_chunked(packet_of(b"\xff\xff", modifier1=100))


class TestRepeatedVars:
    """Which value they have is told by `uwsgibridge.protocol.repeated_vars`; here, that it is asked."""

    def test_of_repeated_vars_the_last_one_wins(self, parse_chunked) -> None:
        pairs = [("PATH_INFO", "/"), ("REMOTE_ADDR", "192.0.2.1"), ("PATH_INFO", "/later")]
        packet = parse_chunked(encode_packet(pairs))
        assert packet.vars == {"PATH_INFO": "/later", "REMOTE_ADDR": "192.0.2.1"}
        assert list(packet.vars) == ["PATH_INFO", "REMOTE_ADDR"]

    def test_a_clients_list_is_joined(self, parse_chunked) -> None:
        pairs = [("HTTP_HOST", "h"), ("HTTP_X", "1"), ("HTTP_X", "2"), ("HTTP_X", "3, 4")]
        assert parse_chunked(encode_packet(pairs)).vars == {
            "HTTP_HOST": "h",
            "HTTP_X": "1, 2, 3, 4",
        }

    def test_long_ones_are_whole(self, parse_chunked) -> None:
        name = "HTTP_" + "N" * 300
        pairs = [(name, "a" * 700), (name, "b" * 800)]
        assert parse_chunked(encode_packet(pairs)).vars == {name: "a" * 700 + ", " + "b" * 800}


class TestMalformed:
    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param(b"\x01", id="half a key size"),
            pytest.param(b"\x01\x00", id="no key"),
            pytest.param(b"\x02\x00A", id="key cut off"),
            pytest.param(b"\x01\x00A", id="no value size"),
            pytest.param(b"\x01\x00A\x01", id="half a value size"),
            pytest.param(b"\x01\x00A\x01\x00", id="no value"),
            pytest.param(b"\x01\x00A\x03\x00bc", id="value cut off"),
            pytest.param(b"\xff\xffA\x01\x00b", id="largest key size"),
            pytest.param(b"\x01\x00A\xff\xffb", id="largest value size"),
            pytest.param(sized(b"A") + sized(b"b") + b"\x00", id="one byte too many"),
            pytest.param(sized(b"A") + sized(b"b") + b"\x00\x00", id="a key of nothing, cut off"),
            pytest.param(sized(b"A") + sized(b"b") + b"\x05\x00", id="second key cut off"),
            pytest.param(sized(b"A") + sized(b"") + sized(b"A") + b"\x01\x00", id="repeated, cut"),
        ],
    )
    def test_a_size_runs_past_the_end(self, parse_chunked, payload) -> None:
        # What comes after the packet would complete it: it must not be read into.
        with pytest.raises(MalformedPacket, match="past the end") as caught:
            parse_chunked(packet_of(payload))
        assert caught.value.status == 400
        assert caught.value.reason == "malformed_packet"
        assert caught.value.option is None

    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param(sized(b"") + sized(b"value"), id="only"),
            pytest.param(sized(b"") + sized(b""), id="nothing of nothing"),
            pytest.param(sized(b"A") + sized(b"b") + sized(b"") + sized(b"c"), id="last"),
            pytest.param((sized(b"") + sized(b"c")) * 2, id="repeated"),
        ],
    )
    def test_an_empty_name_is_refused(self, parse_chunked, payload) -> None:
        with pytest.raises(MalformedPacket, match="empty name") as caught:
            parse_chunked(packet_of(payload))
        assert caught.value.status == 400


class TestLimits:
    def test_more_bytes_of_vars_are_refused(self, parse_chunked) -> None:
        limits = PacketLimits(max_vars_bytes=100)
        at_the_limit = encode_packet({"A": "x" * 95})
        assert parse_chunked(at_the_limit, limits).size_bytes == 104
        with pytest.raises(TooManyVars) as caught:
            parse_with_trailing_data(encode_packet({"A": "x" * 96}), limits)
        assert caught.value.status == 431
        assert caught.value.reason == "vars_over_limit"
        assert caught.value.option == "--max-vars-bytes"
        assert str(caught.value) == "the packet holds 101 bytes of vars, the limit is 100"

    def test_too_many_bytes_are_refused_before_they_arrive(self) -> None:
        taken, error = bytes_until_refused(
            encode_packet({"A": "x" * 96}), PacketLimits(max_vars_bytes=100)
        )
        assert taken == HEADER_BYTES
        assert isinstance(error, TooManyVars)

    def test_more_vars_are_refused(self, parse_chunked) -> None:
        limits = PacketLimits(max_vars=3)
        three = [("A", ""), ("B", ""), ("C", "")]
        assert len(parse_chunked(encode_packet(three), limits).vars) == 3
        with pytest.raises(TooManyVars) as caught:
            parse_chunked(encode_packet([*three, ("D", "")]), limits)
        assert caught.value.status == 431
        assert caught.value.option == "--max-vars"
        assert str(caught.value) == "the packet holds 4 vars, the limit is 3"

    def test_repeated_ones_count_each_time(self, parse_chunked) -> None:
        with pytest.raises(TooManyVars):
            parse_chunked(encode_packet([("HTTP_X", "1")] * 4), PacketLimits(max_vars=3))

    def test_the_defaults_hold(self) -> None:
        assert PacketLimits() == PacketLimits(max_vars_bytes=65_535, max_vars=1000)
        many = [(f"HTTP_X{number}", "") for number in range(1000)]
        packet = parse(encode_packet(many))
        assert packet is not None
        assert len(packet.vars) == 1000
        with pytest.raises(TooManyVars):
            parse(encode_packet([*many, ("HTTP_Y", "")]))

    def test_the_least_limits_hold(self) -> None:
        limits = PacketLimits(max_vars_bytes=1, max_vars=1)
        assert parse(encode_packet({}), limits) == Packet(0, {}, 4)
        one = PacketLimits(max_vars=1)
        assert parse(encode_packet({"A": "b"}), one) == Packet(0, {"A": "b"}, 10)

    @pytest.mark.parametrize("max_vars_bytes", [0, -1, 65_536])
    def test_bytes_that_the_format_cannot_hold(self, max_vars_bytes) -> None:
        with pytest.raises(ValueError, match="max_vars_bytes must be from 1 to 65535"):
            PacketLimits(max_vars_bytes=max_vars_bytes)

    @pytest.mark.parametrize("max_vars", [0, -1])
    def test_a_limit_below_one_is_refused(self, max_vars) -> None:
        with pytest.raises(ValueError, match="max_vars must be at least 1"):
            PacketLimits(max_vars=max_vars)


class TestModifiers:
    @pytest.mark.parametrize("modifier1", range(256))
    def test_only_requests_and_pings_are_taken(self, modifier1) -> None:
        header = struct.pack("<BHB", modifier1, 0, 0)
        if modifier1 in ACCEPTED:
            packet = parse(header)
            assert packet is not None
            assert packet.modifier1 == modifier1
            return
        with pytest.raises(UnsupportedModifier, match=f"modifier1 {modifier1} ") as caught:
            parse(header)
        assert caught.value.status is None  # nothing is answered to a command
        assert caught.value.reason == "unsupported_modifier"

    @pytest.mark.parametrize(
        "modifier1", [m for m in range(256) if m not in ACCEPTED and not 65 <= m <= 90 and m != 22]
    )
    def test_a_command_is_refused_at_its_first_byte(self, modifier1) -> None:
        taken, error = bytes_until_refused(encode_packet({"A": "b"}, modifier1=modifier1))
        assert taken == 1
        assert isinstance(error, UnsupportedModifier)

    @pytest.mark.parametrize("modifier1", [22, *range(65, 91)])
    def test_what_might_be_http_or_tls_is_refused_with_the_header(self, modifier1) -> None:
        taken, error = bytes_until_refused(struct.pack("<BHB", modifier1, 0, 0) + b"rest")
        assert taken <= HEADER_BYTES
        assert isinstance(error, UnsupportedModifier)

    def test_a_command_is_refused_with_all_its_vars_there(self) -> None:
        # uWSGI would run it: modifier 22 evaluates code.
        with pytest.raises(UnsupportedModifier):
            parse(encode_packet({"UWSGI_FILE": "exec://id"}, modifier1=22))


HTTP_REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /\r\n",
    b"POST /form HTTP/1.1\r\nContent-Length: 3\r\n\r\na=b",
    b"PUT / HTTP/1.1\r\n",
    b"HEAD / HTTP/1.1\r\n",
    b"DELETE /1 HTTP/1.1\r\n",
    b"PATCH /1 HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"TRACE / HTTP/1.1\r\n",
    b"CONNECT example.com:443 HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROPFIND /dav HTTP/1.1\r\n",
    b"ACL / HTTP/1.1\r\n",
    b"GET http://example.com/ HTTP/1.1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",  # the PROXY protocol: as wrong, and as readable
]


class TestHttp:
    """A wrong proxy_pass, or a browser, at the uwsgi port."""

    @pytest.mark.parametrize("data", HTTP_REQUESTS, ids=lambda data: data.split()[0].decode())
    def test_it_is_told_in_words(self, data) -> None:
        with pytest.raises(HttpNotUwsgi, match=r"uwsgi_pass \(not proxy_pass\)") as caught:
            parse(data)
        assert caught.value.status == 400
        assert caught.value.reason == "http_not_uwsgi"

    @pytest.mark.parametrize("data", HTTP_REQUESTS, ids=lambda data: data.split()[0].decode())
    def test_four_bytes_are_enough_and_fewer_are_no_other_error(self, data) -> None:
        taken, error = bytes_until_refused(data)
        assert taken <= HEADER_BYTES
        assert isinstance(error, HttpNotUwsgi)

    @pytest.mark.parametrize("fragment", [b"G", b"GE", b"GET", b"P", b"PO", b"PRI", b"O"])
    def test_a_short_fragment_waits_for_more(self, fragment) -> None:
        assert parse(fragment) is None


CLIENT_HELLO = bytes.fromhex(
    "16 03 01 00 3a 01 00 00 36 03 03"  # record and handshake headers, then the random bytes
) + bytes(range(32))


class TestTls:
    @pytest.mark.parametrize("minor", [0, 1, 2, 3, 4])
    def test_a_client_hello_of_each_version_is_told_to_be_tls(self, minor) -> None:
        data = CLIENT_HELLO[:2] + bytes([minor]) + CLIENT_HELLO[3:]
        with pytest.raises(TlsNotUwsgi, match="TLS") as caught:
            parse(data)
        assert caught.value.status is None  # a plain answer would not be understood
        assert caught.value.reason == "tls_not_uwsgi"

    def test_four_bytes_are_enough_and_fewer_are_no_other_error(self) -> None:
        taken, error = bytes_until_refused(CLIENT_HELLO)
        assert taken <= HEADER_BYTES
        assert isinstance(error, TlsNotUwsgi)

    def test_its_first_byte_alone_is_also_a_modifier(self) -> None:
        assert parse(CLIENT_HELLO[:1]) is None


class TestEncoding:
    def test_the_bytes_are_those_of_the_format(self) -> None:
        assert encode_packet({"A": "bc"}) == b"\x00\x07\x00\x00" + b"\x01\x00A\x02\x00bc"

    def test_order_and_repetition_are_kept(self) -> None:
        pairs = [("B", "1"), ("A", "2"), ("B", "3")]
        payload = b"".join(sized(k.encode()) + sized(v.encode()) for k, v in pairs)
        assert encode_packet(iter(pairs)) == packet_of(payload)

    def test_modifiers_are_encoded(self) -> None:
        assert encode_packet({}, modifier1=30, modifier2=7) == b"\x1e\x00\x00\x07"
        assert encode_packet({}, modifier1=MODIFIER_PING) == PING

    def test_text_is_latin_1(self) -> None:
        assert encode_packet({"É": "ÿ"}) == packet_of(sized(b"\xc9") + sized(b"\xff"))
        with pytest.raises(ValueError, match="latin-1"):
            encode_packet({"A": "€"})

    def test_more_than_the_format_holds_is_refused(self) -> None:
        assert len(encode_packet({"A": "x" * 65_530})) == HEADER_BYTES + MAX_VARS_BYTES
        with pytest.raises(ValueError, match="65536 bytes, over 65535"):
            encode_packet({"A": "x" * 65_531})
        with pytest.raises(ValueError, match="BIG is over 65535 bytes"):
            encode_packet({"BIG": "x" * 65_536})

    @pytest.mark.parametrize("modifier", [-1, 256])
    def test_a_modifier_of_more_than_a_byte_is_refused(self, modifier) -> None:
        with pytest.raises(ValueError, match="one byte"):
            encode_packet({}, modifier1=modifier)
        with pytest.raises(ValueError, match="one byte"):
            encode_packet({}, modifier2=modifier)
