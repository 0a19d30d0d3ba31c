"""What an application is told about a request, field by field, behind a real Nginx."""

from __future__ import annotations

import ast
import http.client
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from integration.asgi.frames import FrameClient, subprotocols
from integration.wsgi.fetching import fetch

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack


def read(text: str) -> dict[str, Any]:
    found: dict[str, Any] = ast.literal_eval(text)
    return found


def http_scope(stack: LocalStack, target: str = "/scope", **options: Any) -> dict[str, Any]:
    answer = fetch(stack.url + target, **options)
    assert answer.seen == 200
    return read(answer.body.decode())


def websocket_scope(
    stack: LocalStack, target: str = "/scope", headers: dict[str, str | None] | None = None
) -> dict[str, Any]:
    with FrameClient(stack.url, target, headers=headers) as client:
        text = client.receive_message()
        assert isinstance(text, str)
        return read(text)


def raw_exchange(stack: LocalStack, request: bytes) -> bytes:
    """Send bytes as they are, and give the answer's body; the connection is then closed."""
    where = urlsplit(stack.url)
    with socket.create_connection((where.hostname, where.port), 20) as client:
        client.sendall(request)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        with answer:
            assert answer.status == 200
            return answer.read()


def test_an_http_scope_has_what_the_specification_asks_for(behaviours: LocalStack) -> None:
    scope = http_scope(behaviours)
    host, port = urlsplit(behaviours.url).netloc.split(":")
    client_host, client_port = scope.pop("client")
    assert client_host == host
    assert 1024 <= client_port <= 65_535
    assert scope.pop("headers") == [(b"host", f"{host}:{port}".encode())]
    variables = scope["extensions"].pop("uwsgi")["vars"]
    assert variables["REQUEST_URI"] == "/scope"
    assert all(isinstance(it, str) for pair in variables.items() for it in pair)
    assert {name for name in scope["extensions"] if not name.startswith("http.response.")} == set()
    del scope["extensions"]
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/scope",
        "raw_path": b"/scope",
        "query_string": b"",
        "root_path": "",
        "server": ("localhost", int(port)),
        "state": {"started": True, "shared": []},
    }


def test_a_websocket_scope_has_what_the_specification_asks_for(behaviours: LocalStack) -> None:
    target = "/scope/caf%C3%A9%2525?a=%20b&c"
    scope = websocket_scope(behaviours, target, subprotocols("one", "two"))
    port = urlsplit(behaviours.url).port
    assert "method" not in scope
    assert scope["client"][0] == "127.0.0.1"
    assert scope["server"] == ("localhost", port)
    assert dict(scope["headers"])[b"sec-websocket-version"] == b"13"
    assert scope["extensions"]["websocket.http.response"] == {}
    assert scope["extensions"]["uwsgi"]["vars"]["HTTP_UPGRADE"] == "websocket"
    for name in ("client", "server", "headers", "extensions"):
        del scope[name]
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/scope/caf\u00e9%25",
        "raw_path": b"/scope/caf%C3%A9%2525",
        "query_string": b"a=%20b&c",
        "root_path": "",
        "subprotocols": ["one", "two"],
        "state": {"started": True, "shared": []},
    }


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/scope/caf%C3%A9", "/scope/caf\u00e9", b"/scope/caf%C3%A9", b""),
        ("/scope/caf\u00e9", "/scope/caf\u00e9", "/scope/caf\u00e9".encode(), b""),
        ("/scope/a%2525b", "/scope/a%25b", b"/scope/a%2525b", b""),
        ("/scope/a%2Fb", "/scope/a/b", b"/scope/a%2Fb", b""),
        ("/scope/%FF%FE", "/scope/\ufffd\ufffd", b"/scope/%FF%FE", b""),
        ("/scope//a/./b/../c", "/scope/a/c", b"/scope//a/./b/../c", b""),
        ("/scope/a+b%20c", "/scope/a+b c", b"/scope/a+b%20c", b""),
        ("/scope/?", "/scope/", b"/scope/", b""),
        ("/scope?a=1&b=%26&b=+%C3%A9", "/scope", b"/scope", b"a=1&b=%26&b=+%C3%A9"),
        ("/scope?a=?b/../c", "/scope", b"/scope", b"a=?b/../c"),
        ("/scope?\u00e9", "/scope", b"/scope", "\u00e9".encode()),
        ("/scope/%3F?x", "/scope/?", b"/scope/%3F", b"x"),
        ("/scope/%0d%0aX:%20y", "/scope/\r\nX: y", b"/scope/%0d%0aX:%20y", b""),
    ],
)
def test_paths_and_queries_reach_the_scope(
    behaviours: LocalStack, target: str, path: str, raw_path: bytes, query: bytes
) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    scope = read(raw_exchange(behaviours, request).decode())
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


def test_a_prefix_that_is_cut_off(behaviours: LocalStack) -> None:
    for scope in (
        http_scope(behaviours, "/cut/scope/%C3%A9?q"),
        websocket_scope(behaviours, "/cut/scope/%C3%A9?q"),
    ):
        assert scope["root_path"] == "/cut"
        assert scope["path"] == "/cut/scope/\u00e9"
        assert scope["raw_path"] == b"/cut/scope/%C3%A9"


def test_what_nginx_says_of_tls_and_names(behaviours: LocalStack) -> None:
    """SERVER_NAME is empty where none is configured; then it is the Host header's."""
    request = b"GET /secure/scope HTTP/1.1\r\nHost: example.org:1234\r\nConnection: close\r\n\r\n"
    scope = read(raw_exchange(behaviours, request).decode())
    assert scope["scheme"] == "https"
    assert scope["server"] == ("example.org", 8443)
    assert scope["client"] is None
    found = websocket_scope(behaviours, "/secure/scope", {"Host": "[::1]:80"})
    assert found["scheme"] == "wss"
    assert found["server"] == ("[::1]", 8443)


def test_headers_reach_the_scope(behaviours: LocalStack) -> None:
    sent = [
        ("X-Twice", "1"),
        ("Cookie", "a=1"),
        ("X-Twice", "2"),
        ("Cookie", "b=2"),
        ("X-Latin", "caf\u00e9"),
        ("X-Empty", ""),
        ("Content-Type", "text/plain"),
        ("Proxy", "http://evil.example"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("TE", "trailers"),
    ]
    scope = http_scope(behaviours, method="POST", headers=sent, body=b"four")
    headers = [pair for pair in scope["headers"] if pair[0] != b"host"]
    assert sorted(headers) == [
        (b"content-length", b"4"),
        (b"content-type", b"text/plain"),
        (b"cookie", b"a=1; b=2"),
        (b"te", b"trailers"),
        (b"x-empty", b""),
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-proto", b"https"),
        (b"x-latin", "caf\u00e9".encode("latin-1")),
        (b"x-twice", b"1, 2"),
    ]
    # The order of the wire is kept.
    names = [name for name, _ in headers if name.startswith(b"x-")]
    assert names[:2] == [b"x-twice", b"x-latin"]
    # What a client claims about itself changes nothing.
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "http"


def test_a_chunked_upload_has_a_length_in_the_scope(behaviours: LocalStack) -> None:
    body = b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"
    head = b"POST /scope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    headers = dict(read(raw_exchange(behaviours, head + body).decode())["headers"])
    assert headers[b"content-length"] == b"11"
    assert b"transfer-encoding" not in headers


@pytest.mark.parametrize("method", ["GET", "QUERY", "PROPFIND", "DELETE"])
def test_methods_reach_the_scope(behaviours: LocalStack, method: str) -> None:
    assert http_scope(behaviours, method=method)["method"] == method


def test_http_1_0_is_told(behaviours: LocalStack) -> None:
    scope = read(raw_exchange(behaviours, b"GET /scope HTTP/1.0\r\n\r\n").decode())
    assert scope["http_version"] == "1.0"
    # Some versions of Nginx add a Host header to what has none.
    assert [name for name, _ in scope["headers"] if name != b"host"] == []


@pytest.mark.usefixtures("behaviours")
def test_http_2_is_told(http2_port: int) -> None:
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        answer = client.post(
            f"http://127.0.0.1:{http2_port}/scope/2?x", content=b"body", headers={"X-Y": "z"}
        )
    assert answer.http_version == "HTTP/2"
    scope = read(answer.text)
    assert scope["http_version"] == "2"
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/scope/2", b"x")
    headers = dict(scope["headers"])
    assert headers[b"host"].startswith(b"127.0.0.1:")
    assert headers[b"x-y"] == b"z"
    assert not [name for name in headers if name.startswith(b":")]


def test_without_tls_there_is_no_tls_extension(behaviours: LocalStack) -> None:
    assert "tls" not in http_scope(behaviours)["extensions"]
    assert "tls" not in websocket_scope(behaviours)["extensions"]
