"""What a request is when it arrives at the application: the rows of "The vars" behind a real Nginx."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import pytest

JSON = [("Content-Type", "application/json")]


def headers_named(found, name):
    return [value for key, value in found["headers"] if key == name]


def test_a_request_arrives_as_it_was_sent(stack, kind, client):
    found = client.get(f"{stack.url}/arrived/x?a=1&b=%20", headers={"X-One": "1"}).json()
    port = urlsplit(stack.url).port
    assert found["interface"] == kind.interface
    assert found["method"] == "GET"
    assert found["path"] == "/arrived/x"
    assert found["root_path"] == ""
    assert found["query"] == "a=1&b=%20"
    assert found["scheme"] == "http"
    assert found["http_version"] == "HTTP/1.1"
    assert headers_named(found, "x-one") == ["1"]
    # With its port, which Debian's own uwsgi_params would lose.
    assert headers_named(found, "host") == [f"127.0.0.1:{port}"]
    assert found["body"] == ""


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/arrived/a%2525b", "/arrived/a%25b"),
        ("/arrived/caf%C3%A9", "/arrived/café"),
        ("/arrived/a%2Fb", "/arrived/a/b"),
        ("/arrived/a+b%20c", "/arrived/a+b c"),
        ("/arrived/%FF", "/arrived/\ufffd"),
        ("/arrived//./x/../y?q=/../z", "/arrived/y"),
        ("/arrived/a%3Fb", "/arrived/a?b"),
    ],
)
def test_the_path_is_decoded_once_and_the_raw_one_is_kept(stack, exchange, target, path):
    found = exchange(stack.url, target).json()
    assert found["path"] == path
    assert found["raw_path"] == target.partition("?")[0]


def test_the_vars_are_bytes_as_latin_1(stack, exchange):
    found = exchange(stack.url, "/arrived/caf%C3%A9/%FF").json()
    assert found["vars"]["PATH_INFO"] == "/arrived/cafÃ©/ÿ"
    assert found["vars"]["REQUEST_URI"] == "/arrived/caf%C3%A9/%FF"


def test_repeated_headers_are_one_header(stack, exchange):
    headers = [("X-A", "1"), ("Cookie", "a=1"), ("X-A", "2"), ("Cookie", "b=2")]
    found = exchange(stack.url, "/arrived", headers=headers).json()
    assert headers_named(found, "x-a") == ["1, 2"]
    assert headers_named(found, "cookie") == ["a=1; b=2"]


def test_a_client_cannot_set_what_nginx_says(stack, exchange):
    headers = [
        ("Remote-Addr", "192.0.2.1"),
        ("Remote-User", "root"),
        ("Https", "on"),
        ("Request-Scheme", "https"),
        ("Script-Name", "/intruder"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "intruder.example"),
        ("Forwarded", "for=192.0.2.1;proto=https"),
    ]
    plain = exchange(stack.url, "/arrived").json()
    found = exchange(stack.url, "/arrived", headers=headers).json()
    for name in ("client", "scheme", "server", "root_path"):
        assert found[name] == plain[name]
    assert found["scheme"] == "http"
    assert "REMOTE_USER" not in found["vars"]
    assert headers_named(found, "remote-user") == ["root"]


def test_what_nginx_says_of_a_header_replaces_the_clients(stack, exchange):
    headers = [("X-User", "intruder"), ("X-User", "another")]
    found = exchange(stack.url, "/set-header/arrived", headers=headers).json()
    assert headers_named(found, "x-user") == ["from nginx"]


def test_length_and_type_come_once(stack, exchange):
    headers = [*JSON, ("Content-Length", "7")]
    found = exchange(stack.url, "/arrived", method="POST", headers=headers, body=b'{"a":1}').json()
    assert headers_named(found, "content-length") == ["7"]
    assert headers_named(found, "content-type") == ["application/json"]
    assert not {"HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"} & found["vars"].keys()
    assert found["body"] == '{"a":1}'


def test_without_a_body_there_is_no_length(stack, exchange):
    found = exchange(stack.url, "/arrived").json()
    assert headers_named(found, "content-length") == []
    assert headers_named(found, "content-type") == []


def test_a_chunked_upload_has_a_length_and_no_chunks(stack, client):
    found = client.post(f"{stack.url}/arrived", data=iter([b"one,", b"two,", b"three"])).json()
    assert found["body"] == "one,two,three"
    assert headers_named(found, "content-length") == ["13"]
    assert headers_named(found, "transfer-encoding") == []
    assert "HTTP_TRANSFER_ENCODING" not in found["vars"]


def test_nginx_says_its_name(stack, exchange):
    # Where nobody says it, a client that is silent after its handshake is taken for a lost one.
    found = exchange(stack.url, "/arrived").json()
    assert re.fullmatch(r"nginx/\d+\.\d+\.\d+", found["vars"]["SERVER_SOFTWARE"])


def test_a_proxy_header_goes_nowhere(stack, exchange):
    headers = [("Proxy", "http://intruder.example"), ("X-One", "1")]
    # The shipped params remove the header; in the other location, Nginx passes it on.
    for target in ("/arrived", "/cut/arrived"):
        found = exchange(stack.url, target, headers=headers).json()
        assert headers_named(found, "x-one") == ["1"]
        assert headers_named(found, "proxy") == []
        assert "HTTP_PROXY" not in found["vars"]


def test_scheme_version_and_port_are_those_of_nginx(stack, exchange):
    found = exchange(stack.url, "/https/arrived").json()
    assert found["scheme"] == "https"
    assert found["server"][1] == 443
    assert found["http_version"] in {"HTTP/2", "HTTP/2.0"}


def test_https_alone_says_the_scheme_too(stack, exchange):
    found = exchange(stack.url, "/https-of-apache/arrived").json()
    assert found["scheme"] == "https"
    assert found["server"][1] == 443


def test_http_1_0_is_told_and_answered(stack):
    where = urlsplit(stack.url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(b"GET /arrived HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"http_version": "HTTP/1.0"' in answer


def test_script_name_is_cut_off_the_path_with_modifier_30(stack, exchange):
    found = exchange(stack.url, "/cut/arrived/x").json()
    assert found["root_path"] == "/cut"
    # ASGI's path holds the root_path, as SCRIPT_NAME and PATH_INFO together do.
    assert found["path"] == "/cut/arrived/x"
    assert found["vars"]["SCRIPT_NAME"] == "/cut"
    assert found["vars"]["PATH_INFO"] == "/arrived/x"


def test_missing_vars_are_no_error(stack, exchange):
    answer = exchange(stack.url, "/bare/arrived")
    # No PATH_INFO, so it is the application's answer for "/".
    assert answer.status == 404
    assert answer.json() == {"error": "there is no exercise ''"}


def test_more_headers_than_a_packet_holds_are_the_clients_error(stack, exchange):
    headers = [(f"X-{number}", "x" * 30_000) for number in range(3)]
    assert exchange(stack.url, "/arrived", headers=headers).status == 400
    many = [(f"X-{number}", "x" * 8_000) for number in range(6)]
    assert exchange(stack.url, "/arrived", headers=many).status == 400
    # Just below what the shipped configuration takes, all of it arrives.
    most = [(f"X-{number}", "x" * 8_000) for number in range(3)]
    found = exchange(stack.url, "/arrived", headers=most).json()
    assert [len(headers_named(found, f"x-{number}")[0]) for number in range(3)] == [8_000] * 3


def test_a_body_longer_than_a_length_says_is_never_a_request(stack, exchange, token):
    """Nginx forwards the bytes of this body behind an empty CONTENT_LENGTH."""
    vars_ = b"".join(
        len(text).to_bytes(2, "little") + text
        for text in (b"REQUEST_METHOD", b"GET", b"PATH_INFO", f"/arrived/{token}".encode())
    )
    packet = b"\0" + len(vars_).to_bytes(2, "little") + b"\0" + vars_
    for target in ("/no-length/arrived", "/arrived"):
        answer = exchange(
            stack.url, target, headers=[("Content-Length", str(len(packet)))], body=packet
        )
        assert answer.status == 200
        assert answer.json()["body"] == (
            "" if target.startswith("/no-") else packet.decode("latin-1")
        )
    exchange(stack.url, f"/arrived/seen-{token}")
    served = exchange(stack.url, "/served").json()
    assert [line for line in served if token in line] == [f"GET /arrived/seen-{token}"]
