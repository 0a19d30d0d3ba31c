"""A request from its vars: every fact about what frontends send, and what follows from it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable, Mapping

import pytest

from uwsgibridge.protocol import request as request_module
from uwsgibridge.protocol.errors import BodyTooLarge, InvalidContentLength, ProtocolError
from uwsgibridge.protocol.packet import PacketLimits, encode_packet, parse_packet
from uwsgibridge.protocol.request import Request, is_below

Vars = Mapping[str, str] | Iterable[tuple[str, str]]


def request_of(variables: Vars, *, modifier1: int = 0, max_body_bytes: int = 0) -> Request:
    data = encode_packet(variables, modifier1=modifier1)
    packet = parse_packet(memoryview(data), PacketLimits())
    assert packet is not None
    return Request(packet, max_body_bytes=max_body_bytes)


def wire(text: str) -> str:
    """Text as a frontend sends it: UTF-8 bytes, which the codec gives as latin-1."""
    return text.encode().decode("latin-1")


class TestNothingIsRequired:
    def test_a_request_needs_no_vars(self) -> None:
        request = request_of({})
        assert request.vars == {
            "REQUEST_METHOD": "GET",
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
        }
        assert request.content_length == 0
        assert request.method == "GET"
        assert request.scheme == "http"
        assert request.http_version == "1.1"
        assert request.client is None
        assert request.server == ("localhost", 80)
        assert request.path == "/"
        assert request.raw_path == b"/"
        assert request.root_path == ""
        assert request.query_string == b""
        assert request.header_pairs() == []

    def test_what_is_there_is_kept(self) -> None:
        variables = {
            "REQUEST_METHOD": "POST",
            "QUERY_STRING": "q=1",
            "SERVER_PROTOCOL": "HTTP/2.0",
            "SCRIPT_NAME": "/app",
            "PATH_INFO": "",
            "SERVER_NAME": "example.com",
            "SERVER_PORT": "8443",
            "DOCUMENT_ROOT": "/srv",
            "CONTENT_LENGTH": "3",
        }
        assert request_of(variables).vars == variables

    def test_an_absent_path_below_a_script_is_empty(self) -> None:
        # Together they must not name "/app/", which is another resource.
        request = request_of({"SCRIPT_NAME": "/app"})
        assert request.vars["PATH_INFO"] == ""
        assert request.path == "/app"

    def test_a_method_is_never_empty(self) -> None:
        request = request_of({"REQUEST_METHOD": ""})
        assert request.method == "GET"
        assert request.http_scope()["method"] == "GET"

    def test_the_methods_case_is_kept(self) -> None:
        assert request_of({"REQUEST_METHOD": "pAtCh"}).method == "pAtCh"


class TestTrust:
    """Vars without HTTP_ are the frontend's own words; a client can't set them."""

    def test_of_the_frontends_words_the_last_one_stands(self) -> None:
        request = request_of(
            [
                ("REMOTE_ADDR", "192.0.2.1"),
                ("REQUEST_SCHEME", "https"),
                ("CONTENT_LENGTH", "1000"),
                ("REMOTE_ADDR", "203.0.113.9"),
                ("REQUEST_SCHEME", "http"),
                ("CONTENT_LENGTH", ""),
            ]
        )
        assert request.client == ("203.0.113.9", 0)
        assert request.scheme == "http"
        assert request.content_length == 0

    def test_no_header_speaks_for_the_frontend(self) -> None:
        request = request_of(
            {
                "REMOTE_ADDR": "192.0.2.1",
                "REMOTE_PORT": "40000",
                "REQUEST_SCHEME": "http",
                "SERVER_NAME": "example.com",
                "SERVER_PORT": "80",
                "HTTP_X_FORWARDED_FOR": "203.0.113.9",
                "HTTP_X_FORWARDED_PROTO": "https",
                "HTTP_X_FORWARDED_HOST": "evil.example",
                "HTTP_X_FORWARDED_PORT": "1",
                "HTTP_X_REAL_IP": "203.0.113.9",
                "HTTP_FORWARDED": "for=203.0.113.9;proto=https;host=evil.example",
                "HTTP_REMOTE_ADDR": "203.0.113.9",
                "HTTP_HTTPS": "on",
                "HTTP_HOST": "evil.example:1",
            }
        )
        assert request.client == ("192.0.2.1", 40_000)
        assert request.scheme == "http"
        assert request.server == ("example.com", 80)

    @pytest.mark.parametrize(
        "name",
        [
            "UWSGI_FILE",
            "UWSGI_SCRIPT",
            "UWSGI_MODULE",
            "UWSGI_CHDIR",
            "UWSGI_SETENV",
            "UWSGI_APPID",
        ],
    )
    def test_a_var_that_uwsgi_acts_on_is_only_text(self, name) -> None:
        assert request_of({name: "exec://id"}).vars[name] == "exec://id"


class TestDroppedVars:
    @pytest.mark.parametrize(
        "name",
        [
            "HTTP_CONTENT_TYPE",  # in addition to CONTENT_TYPE
            "HTTP_CONTENT_LENGTH",
            "HTTP_TRANSFER_ENCODING",  # the body arrives de-chunked
            "HTTP_PROXY",  # httpoxy
        ],
    )
    def test_neither_environ_nor_scope_has_it(self, name) -> None:
        request = request_of([(name, "1"), ("HTTP_X", "2"), (name, "3")])
        assert name not in request.vars
        assert request.header_pairs() == [(b"x", b"2")]

    def test_a_chunked_upload_has_the_length_that_the_frontend_counted(self) -> None:
        request = request_of({"CONTENT_LENGTH": "11", "HTTP_TRANSFER_ENCODING": "chunked"})
        assert request.content_length == 11
        assert request.header_pairs() == [(b"content-length", b"11")]

    def test_a_clients_length_is_not_believed(self) -> None:
        request = request_of({"CONTENT_LENGTH": "", "HTTP_CONTENT_LENGTH": "99"})
        assert request.content_length == 0
        assert request.header_pairs() == []

    @pytest.mark.parametrize(
        "name",
        ["HTTP_content_length", "HTTP_CONTENT-TYPE", "HTTP_Transfer-Encoding", "HTTP_proxy"],
    )
    def test_no_spelling_of_a_frontend_brings_one_back(self, name) -> None:
        variables = {name: "1", "HTTP_X": "2", "CONTENT_LENGTH": "3", "CONTENT_TYPE": "text/plain"}
        assert request_of(variables).header_pairs() == [
            (b"x", b"2"),
            (b"content-type", b"text/plain"),
            (b"content-length", b"3"),
        ]

    def test_what_only_looks_like_them_stays(self) -> None:
        variables = {"HTTP_PROXY_CONNECTION": "close", "HTTP_CONTENT_ENCODING": "gzip"}
        assert request_of(variables).header_pairs() == [
            (b"proxy-connection", b"close"),
            (b"content-encoding", b"gzip"),
        ]


class TestContentLength:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("0", 0),
            ("1", 1),
            ("65536", 65_536),
            ("007", 7),
            ("999999999999999999", 999_999_999_999_999_999),
            ("000000000000000001", 1),
        ],
    )
    def test_plain_decimal_numbers_are_lengths(self, text, value) -> None:
        request = request_of({"CONTENT_LENGTH": text})
        assert request.content_length == value
        assert request.vars["CONTENT_LENGTH"] == text

    def test_empty_is_no_body(self) -> None:
        request = request_of({"CONTENT_LENGTH": ""})
        assert request.content_length == 0
        assert request.header_pairs() == []

    @pytest.mark.parametrize(
        "text",
        [
            "-1",
            "+1",
            " 1",
            "1 ",
            "1_0",
            "0x10",
            "1.0",
            "1e3",
            "1,1",
            "1, 1",
            "5;",
            "five",
            "\t1",
            "1\n",
            "1\0",
            "²",
            "¼",
            wire("\uff11"),  # a full-width digit
            wire("٣"),  # an Arabic-Indic digit
            "1000000000000000000",  # 19 digits
            "9" * 5000,  # int() would refuse it in words of its own
            "0" * 5000 + "1",
        ],
        ids=lambda text: ascii(text)[:24],
    )
    def test_everything_else_is_refused(self, text) -> None:
        with pytest.raises(InvalidContentLength, match="not a decimal number") as caught:
            request_of({"CONTENT_LENGTH": text})
        assert caught.value.status == 400
        assert caught.value.reason == "invalid_content_length"
        assert len(str(caught.value)) < 250  # an answer and a log line, not an echo

    def test_a_body_over_the_limit_is_refused(self) -> None:
        assert request_of({"CONTENT_LENGTH": "100"}, max_body_bytes=100).content_length == 100
        with pytest.raises(BodyTooLarge) as caught:
            request_of({"CONTENT_LENGTH": "101"}, max_body_bytes=100)
        assert caught.value.status == 413
        assert caught.value.reason == "body_over_limit"
        assert caught.value.option == "--max-body-bytes"
        assert str(caught.value) == "the body has 101 bytes, the limit is 100"

    def test_the_least_limit_holds(self) -> None:
        assert request_of({"CONTENT_LENGTH": "1"}, max_body_bytes=1).content_length == 1
        with pytest.raises(BodyTooLarge):
            request_of({"CONTENT_LENGTH": "2"}, max_body_bytes=1)

    @pytest.mark.parametrize("length", ["11", "-1"])
    def test_the_refusal_knows_the_request(self, length) -> None:
        variables = {"CONTENT_LENGTH": length, "REQUEST_METHOD": "PUT", "SCRIPT_NAME": "/a/"}
        with pytest.raises(ProtocolError) as caught:
            request_of({**variables, "PATH_INFO": "/a/b"}, modifier1=30, max_body_bytes=10)
        request = caught.value.request
        assert isinstance(request, Request)
        assert (request.method, request.path, request.root_path) == ("PUT", "/a/b", "/a")
        assert request.vars["SERVER_NAME"] == "localhost"
        assert request.content_length == 0

    def test_without_a_limit_any_length_is_taken(self) -> None:
        assert request_of({"CONTENT_LENGTH": "9" * 18}, max_body_bytes=0).content_length > 10**17


class TestScheme:
    @pytest.mark.parametrize(
        ("variables", "scheme"),
        [
            ({"REQUEST_SCHEME": "https"}, "https"),
            ({"REQUEST_SCHEME": "http"}, "http"),
            ({"REQUEST_SCHEME": "HTTPS"}, "https"),
            # A line behind `include uwsgi_params;`, which always sends REQUEST_SCHEME.
            ({"REQUEST_SCHEME": "http", "HTTPS": "on"}, "https"),
            ({"REQUEST_SCHEME": "Http", "HTTPS": "1"}, "https"),
            ({"REQUEST_SCHEME": "https", "HTTPS": "off"}, "http"),
            ({"REQUEST_SCHEME": "https", "HTTPS": ""}, "https"),
            ({"REQUEST_SCHEME": "", "HTTPS": "on"}, "https"),
            ({"HTTPS": "on"}, "https"),  # Apache and lighttpd send it
            *(({"HTTPS": word}, "https") for word in ("ON", "On", "1", "true", "yes", "https")),
            *(({"HTTPS": word}, "http") for word in ("", "off", "OFF", "0", "no", "http", "maybe")),
            ({"UWSGI_SCHEME": "https"}, "https"),
            ({"UWSGI_SCHEME": "HTTPS", "HTTPS": "off", "REQUEST_SCHEME": "http"}, "https"),
            ({"UWSGI_SCHEME": "http", "HTTPS": "on", "REQUEST_SCHEME": "https"}, "http"),
            ({"UWSGI_SCHEME": "", "HTTPS": "on", "REQUEST_SCHEME": "http"}, "https"),
            # What a client says of itself.
            ({"HTTP_HTTPS": "on", "HTTP_UWSGI_SCHEME": "https"}, "http"),
            ({"HTTP_REQUEST_SCHEME": "https", "HTTP_X_FORWARDED_PROTO": "https"}, "http"),
            ({"SERVER_PORT": "443"}, "http"),  # a port proves nothing
        ],
    )
    def test_it_comes_from_the_frontend(self, variables, scheme) -> None:
        request = request_of(variables)
        assert request.scheme == scheme
        assert request.http_scope()["scheme"] == scheme
        assert request.vars["SERVER_PORT"] == variables.get(
            "SERVER_PORT", {"http": "80", "https": "443"}[scheme]
        )


class TestHttpVersion:
    @pytest.mark.parametrize(
        ("protocol", "version"),
        [
            ("HTTP/1.0", "1.0"),
            ("HTTP/1.1", "1.1"),
            ("HTTP/2.0", "2"),
            ("HTTP/2", "2"),
            ("HTTP/3.0", "3"),
            ("HTTP/3", "3"),
            ("HTTP/0.9", "1.1"),
            ("", "1.1"),
            ("INCLUDED", "1.1"),
        ],
    )
    def test_it_is_what_asgi_calls_it(self, protocol, version) -> None:
        request = request_of({"SERVER_PROTOCOL": protocol})
        assert request.http_version == version
        assert request.vars["SERVER_PROTOCOL"] == protocol


class TestClientAndServer:
    @pytest.mark.parametrize(
        ("variables", "client"),
        [
            ({"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "40000"}, ("192.0.2.1", 40_000)),
            ({"REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": "1"}, ("2001:db8::1", 1)),
            ({"REMOTE_ADDR": "192.0.2.1"}, ("192.0.2.1", 0)),
            ({"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": ""}, ("192.0.2.1", 0)),
            ({"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "100000"}, ("192.0.2.1", 0)),
            ({"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "-1"}, ("192.0.2.1", 0)),
            ({"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "²"}, ("192.0.2.1", 0)),
            ({"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "9" * 5000}, ("192.0.2.1", 0)),
            ({"REMOTE_ADDR": "unix:", "REMOTE_PORT": ""}, None),
            ({"REMOTE_ADDR": "", "REMOTE_PORT": "1"}, None),
            ({"REMOTE_PORT": "1"}, None),
        ],
    )
    def test_the_vars_tell_the_client(self, variables, client) -> None:
        assert request_of(variables).client == client

    @pytest.mark.parametrize(
        ("variables", "server"),
        [
            ({"SERVER_NAME": "example.com", "SERVER_PORT": "8080"}, ("example.com", 8080)),
            ({"SERVER_NAME": "example.com"}, ("example.com", 80)),
            ({"SERVER_NAME": "example.com", "REQUEST_SCHEME": "https"}, ("example.com", 443)),
            (
                {"SERVER_NAME": "example.com", "HTTPS": "on", "SERVER_PORT": ""},
                ("example.com", 443),
            ),
            ({"SERVER_NAME": "example.com", "SERVER_PORT": "x"}, ("example.com", 0)),
            ({"SERVER_NAME": "a", "HTTP_HOST": "b", "SERVER_ADDR": "192.0.2.7"}, ("a", 80)),
        ],
    )
    def test_the_vars_tell_the_server(self, variables, server) -> None:
        assert request_of(variables).server == server

    @pytest.mark.parametrize(
        ("host", "name"),
        [
            ("example.com", "example.com"),
            ("example.com:8080", "example.com"),
            ("192.0.2.7:8080", "192.0.2.7"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[2001:db8::1]:8080", "[2001:db8::1]"),
            ("[::1", "[::1]"),
            ("", "192.0.2.9"),
            (":8080", "192.0.2.9"),
        ],
    )
    def test_without_a_server_name_the_host_header_has_it(self, host, name) -> None:
        """Nginx sends an empty SERVER_NAME where none is configured."""
        variables = {"SERVER_NAME": "", "HTTP_HOST": host, "SERVER_ADDR": "192.0.2.9"}
        request = request_of(variables)
        assert request.vars["SERVER_NAME"] == name
        assert request.server == (name, 80)
        assert request.vars["HTTP_HOST"] == host


class TestPath:
    def test_nothing_is_decoded_twice(self) -> None:
        """PATH_INFO was decoded by the frontend, once: /a%2525b arrives as /a%25b."""
        request = request_of({"PATH_INFO": "/a%25b", "REQUEST_URI": "/a%2525b?x=%2525"})
        assert request.vars["PATH_INFO"] == "/a%25b"
        assert request.path == "/a%25b"
        assert request.raw_path == b"/a%2525b"

    def test_the_query_is_never_decoded(self) -> None:
        assert request_of({"QUERY_STRING": "x=%2525&y=+%FF"}).query_string == b"x=%2525&y=+%FF"
        assert request_of({"QUERY_STRING": "x=\xff"}).query_string == b"x=\xff"

    def test_a_path_in_utf_8_is_decoded(self) -> None:
        uri = "/caf%C3%A9/%E6%9D%B1%E4%BA%AC"
        request = request_of({"PATH_INFO": wire("/café/東京"), "REQUEST_URI": uri})
        assert request.vars["PATH_INFO"] == "/caf\xc3\xa9/\xe6\x9d\xb1\xe4\xba\xac"  # PEP 3333
        assert request.path == "/café/東京"
        assert request.raw_path == uri.encode()

    def test_what_is_not_utf_8_is_replaced_in_the_text_only(self) -> None:
        request = request_of({"PATH_INFO": "/caf\xe9/\xff", "REQUEST_URI": "/caf%E9/%FF"})
        assert request.vars["PATH_INFO"] == "/caf\xe9/\xff"
        assert request.path == "/caf\ufffd/\ufffd"
        assert request.raw_path == b"/caf%E9/%FF"

    def test_a_character_may_be_cut_by_nothing(self) -> None:
        # SCRIPT_NAME and PATH_INFO are joined as bytes, and only then read as UTF-8.
        request = request_of({"SCRIPT_NAME": "/\xc3", "PATH_INFO": "\xa9/x"})
        assert request.path == "/é/x"

    @pytest.mark.parametrize(
        ("uri", "raw"),
        [
            ("/", b"/"),
            ("/a/../b%2f?x=/?y", b"/a/../b%2f"),
            ("/?", b"/"),
            ("/caf\xe9", b"/caf\xe9"),  # a client that did not encode it
        ],
    )
    def test_raw_path_is_the_request_line(self, uri, raw) -> None:
        assert request_of({"PATH_INFO": "/other", "REQUEST_URI": uri}).raw_path == raw

    @pytest.mark.parametrize(
        ("uri", "raw"),
        [
            # nginx of "GET http://h?x=1"
            ("?x=1", b"/"),
            ("?", b"/"),
            # Apache
            ("http://h", b"/"),
            ("http://h?x=/1", b"/"),
            ("http://h:80/", b"/"),
            ("HTTP://u@[::1]:80//a%20b/?x", b"//a%20b/"),
            # OPTIONS *
            ("*", b"*"),
        ],
    )
    def test_raw_path_of_an_absolute_form_is_its_path(self, uri, raw) -> None:
        assert request_of({"PATH_INFO": "/", "REQUEST_URI": uri}).raw_path == raw

    @pytest.mark.parametrize(
        ("script_name", "path", "raw"),
        [
            ("", "/plain", b"/plain"),
            ("", "/a b?c%#", b"/a%20b%3Fc%25%23"),
            ("", wire("/café"), b"/caf%C3%A9"),
            ("/app", "/x", b"/app/x"),
            ("", "/-._~!$&'()*+,;=:@", b"/-._~!$&'()*+,;=:@"),  # pchar of RFC 3986
        ],
    )
    def test_without_the_request_line_it_is_encoded_again(self, script_name, path, raw) -> None:
        request = request_of({"SCRIPT_NAME": script_name, "PATH_INFO": path, "REQUEST_URI": ""})
        assert request.raw_path == raw

    @pytest.mark.parametrize("modifier1", [0, 30])
    @pytest.mark.parametrize(
        ("script_name", "path", "script_name_after", "path_after"),
        [
            ("/", "/x", "", "/x"),
            ("/", "", "", "/"),
            ("/", None, "", "/"),
            ("//", "/x", "", "/x"),
            ("/trail/", "/x", "/trail", "/x"),
            ("/trail//", "/x", "/trail", "/x"),
            # The whole path stays what it was.
            ("/trail/", "", "/trail", "/"),
            ("/trail/", None, "/trail", "/"),
            ("/trail/", "x", "/trail", "/x"),
            ("/trail", "", "/trail", ""),
        ],
    )
    def test_a_script_name_has_no_slash_at_its_end(
        self, script_name, path, script_name_after, path_after, modifier1
    ) -> None:
        variables = {"SCRIPT_NAME": script_name, "PATH_INFO": path}
        if path is None:
            del variables["PATH_INFO"]
        request = request_of(variables, modifier1=modifier1)
        assert request.vars["SCRIPT_NAME"] == script_name_after
        assert request.vars["PATH_INFO"] == path_after
        assert request.path == script_name_after + path_after

    def test_script_name_is_the_root_path(self) -> None:
        request = request_of({"SCRIPT_NAME": wire("/büro"), "PATH_INFO": "/x"})
        assert request.root_path == "/büro"
        assert request.path == "/büro/x"


class TestHttpScope:
    def test_it_is_what_asgi_has_under_that_name(self) -> None:
        request = request_of(
            {
                "REQUEST_METHOD": "post",
                "REQUEST_URI": "/app/caf%C3%A9?q=%20",
                "QUERY_STRING": "q=%20",
                "SCRIPT_NAME": "/app",
                "PATH_INFO": wire("/café"),
                "SERVER_PROTOCOL": "HTTP/2.0",
                "REQUEST_SCHEME": "https",
                "REMOTE_ADDR": "192.0.2.1",
                "REMOTE_PORT": "40000",
                "SERVER_NAME": "example.com",
                "SERVER_PORT": "443",
                "HTTP_HOST": "example.com",
                "CONTENT_LENGTH": "3",
            }
        )
        assert request.http_scope() == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "2",
            "method": "POST",
            "scheme": "https",
            "path": "/app/café",
            "raw_path": b"/app/caf%C3%A9",
            "query_string": b"q=%20",
            "root_path": "/app",
            "headers": [(b"host", b"example.com"), (b"content-length", b"3")],
            "client": ("192.0.2.1", 40_000),
            "server": ("example.com", 443),
        }

    def test_no_two_requests_share_a_part_that_can_be_changed(self) -> None:
        first, second = request_of({}).http_scope(), request_of({}).http_scope()
        first["headers"].append((b"x", b"1"))
        first["asgi"]["version"] = "4.0"
        assert second["headers"] == []
        assert second["asgi"]["version"] == "3.0"


class TestModifier30:
    @pytest.mark.parametrize(
        ("script_name", "path", "script_name_after", "path_after"),
        [
            ("/app", "/app/x", "/app", "/x"),
            ("/app", "/app/", "/app", "/"),
            ("/app", "/app", "/app", ""),
            ("/app/", "/app/x", "/app", "/x"),
            ("/a/b", "/a/b/c", "/a/b", "/c"),
            ("/app", "/application", "/app", "/application"),  # no path boundary
            ("/app", "/other", "/app", "/other"),
            ("/app", "/x/app/y", "/app", "/x/app/y"),
            ("/app", "/app/app/x", "/app", "/app/x"),  # once
            ("", "/x", "", "/x"),
            ("/", "/x", "", "/x"),
            (wire("/é"), wire("/é/x"), wire("/é"), "/x"),
            ("/%41", "/A/x", "/%41", "/A/x"),  # nothing is decoded
        ],
    )
    def test_the_script_name_is_cut_off_the_path(
        self, script_name, path, script_name_after, path_after
    ) -> None:
        variables = {"SCRIPT_NAME": script_name, "PATH_INFO": path}
        request = request_of(variables, modifier1=30)
        assert request.vars["SCRIPT_NAME"] == script_name_after
        assert request.vars["PATH_INFO"] == path_after

    def test_modifier_0_leaves_both(self) -> None:
        request = request_of({"SCRIPT_NAME": "/app", "PATH_INFO": "/app/x"}, modifier1=0)
        assert request.vars["PATH_INFO"] == "/app/x"
        assert request.vars["SCRIPT_NAME"] == "/app"

    @pytest.mark.parametrize(
        ("path", "prefix", "below"),
        [
            ("/foo", "/foo", True),
            ("/foo/", "/foo", True),
            ("/foo/bar", "/foo", True),
            ("/foobar", "/foo", False),
            ("/fo", "/foo", False),
            ("/FOO", "/foo", False),
            ("/", "", True),
            ("", "", True),
            ("", "/foo", False),
        ],
    )
    def test_a_prefix_ends_at_a_boundary_of_the_path(self, path, prefix, below) -> None:
        assert is_below(path, prefix) is below


class TestHeaders:
    def test_names_and_values(self) -> None:
        request = request_of(
            [
                ("REMOTE_ADDR", "192.0.2.1"),
                ("HTTP_HOST", "example.com"),
                ("HTTP_ACCEPT_LANGUAGE", "de, en;q=0.5"),
                ("HTTP_X_BYTES", "\xff\x80"),
                ("HTTP_EMPTY", ""),
            ]
        )
        assert request.header_pairs() == [
            (b"host", b"example.com"),
            (b"accept-language", b"de, en;q=0.5"),
            (b"x-bytes", b"\xff\x80"),
            (b"empty", b""),
        ]

    def test_those_that_the_client_repeated_are_joined(self) -> None:
        pairs = [("HTTP_X", "1"), ("HTTP_COOKIE", "a=1"), ("HTTP_X", "2"), ("HTTP_COOKIE", "b=2")]
        request = request_of(pairs)
        assert request.header_pairs() == [(b"x", b"1, 2"), (b"cookie", b"a=1; b=2")]

    def test_type_and_length_come_once_and_from_the_frontend(self) -> None:
        request = request_of(
            {
                "CONTENT_TYPE": "text/plain",
                "CONTENT_LENGTH": "5",
                "HTTP_CONTENT_TYPE": "text/html",
                "HTTP_CONTENT_LENGTH": "6",
                "HTTP_X": "1",
            }
        )
        assert sorted(request.header_pairs()) == [
            (b"content-length", b"5"),
            (b"content-type", b"text/plain"),
            (b"x", b"1"),
        ]

    def test_empty_type_and_length_are_absent(self) -> None:
        assert request_of({"CONTENT_TYPE": "", "CONTENT_LENGTH": ""}).header_pairs() == []

    def test_a_length_of_zero_is_a_header(self) -> None:
        assert request_of({"CONTENT_LENGTH": "0"}).header_pairs() == [(b"content-length", b"0")]

    def test_many_different_names_are_not_all_kept(self) -> None:
        """They come from clients, so what is remembered of them has a bound."""

        def ask_for(start: int) -> None:
            for number in range(start, start + 2000):
                pairs = request_of({f"HTTP_X_{number}": "1"}).header_pairs()
                assert pairs == [(b"x-%d" % number, b"1")]

        ask_for(0)
        ask_for(0)  # what is remembered is as right as what is not
        tracemalloc.start()
        try:
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            ask_for(2000)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 20_000

    def test_long_names_are_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bound on their number alone lets a client fill memory with names of 64 KiB."""
        monkeypatch.setattr(request_module, "header_names", request_module._HeaderNames())

        def ask_for(start: int) -> None:
            for number in range(start, start + 100):
                name = f"{number}-" + "x" * 20_000
                pairs = request_of({"HTTP_" + name.upper().replace("-", "_"): "1"}).header_pairs()
                assert pairs == [(name.encode(), b"1")]

        ask_for(0)
        tracemalloc.start()
        try:
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            ask_for(100)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 20_000
