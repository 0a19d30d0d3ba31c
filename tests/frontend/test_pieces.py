"""What the rendered directives do: a private Nginx between an HTTP client and a stand-in for the bridge."""

from __future__ import annotations

import gzip
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.certificates import make_site_certificate
from tests.frontend.conftest import Serve
from tests.frontend.stand_in import OK, PATIENCE_SECONDS, StandIn, get, say
from uwsgibridge.frontend.binary import choose_nginx
from uwsgibridge.frontend.options import RateLimit, StaticDirectory, Tls
from uwsgibridge.protocol.sent import read_moment

# --- The vars -------------------------------------------------------------------------------------


def test_the_params_give_the_vars_of_a_request(app: StandIn, serve: Serve) -> None:
    nginx = serve(server_names=("example.org",))
    began_at = time.time()
    answer = say(
        nginx,
        b"GET /caf%C3%A9/../a%252Fb?x=%20 HTTP/1.1\r\nHost: shop.example:8080\r\nX-One: 1\r\n"
        b"Proxy: http://evil.example/\r\nConnection: close\r\n\r\n",
    )
    assert b"hello" in answer
    received = app.vars()
    assert int(received.pop("REMOTE_PORT")) > 0
    assert received.pop("DOCUMENT_ROOT").endswith("/html")
    assert re.fullmatch(r"nginx/\d+\.\d+\.\d+", received.pop("SERVER_SOFTWARE"))
    sent = read_moment(received.pop("UWSGIBRIDGE_SENT"))
    assert sent is not None
    assert began_at - 1 < sent < time.time() + 1
    assert re.fullmatch("[0-9a-f]{32}", received.pop("REQUEST_ID"))
    assert received == {
        "PATH_INFO": "/a%2Fb",
        "QUERY_STRING": "x=%20",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/caf%C3%A9/../a%252Fb?x=%20",
        "REQUEST_SCHEME": "http",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "example.org",
        "SERVER_PORT": str(nginx.port),
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "HTTP_HOST": "shop.example:8080",
        "HTTP_X_ONE": "1",
        "HTTP_CONNECTION": "close",
    }


def test_a_body_comes_with_its_length_and_type(app: StandIn, serve: Serve) -> None:
    requests.post(serve().url, data={"a": "1"}, timeout=PATIENCE_SECONDS)
    assert app.vars()["CONTENT_LENGTH"] == "3"
    assert app.vars()["CONTENT_TYPE"] == "application/x-www-form-urlencoded"


# --- Limits ---------------------------------------------------------------------------------------


def test_headers_that_are_too_many_are_refused_before_the_packet_overflows(
    app: StandIn, serve: Serve
) -> None:
    nginx = serve()
    assert get(nginx, headers={f"X-{n}": "x" * 7900 for n in range(3)}).status_code == 200
    for headers in (
        {f"X-{n}": "x" * 7900 for n in range(5)},
        {f"X-{n}": "x" * 30_000 for n in range(3)},
    ):
        assert get(nginx, headers=headers).status_code == 400
    assert len(app.received) == 1


def test_a_request_that_nginx_just_takes_fits_a_packet(app: StandIn, serve: Serve) -> None:
    # The line comes twice, and each header grows by five bytes.
    headers = {f"X-{n}": "x" * 22 for n in range(750)}
    assert get(serve(), "/" + "p" * 3000 + "?" + "q" * 3000, headers=headers).status_code == 200
    assert 38_000 < app.packet_sizes[0] <= 65_535


def test_a_body_over_the_limit_is_refused(app: StandIn, serve: Serve) -> None:
    nginx = serve(client_max_body_bytes=1000)
    for size, status in ((1000, 200), (1001, 413)):
        answer = requests.post(nginx.url, data=b"x" * size, timeout=PATIENCE_SECONDS)
        assert answer.status_code == status
    assert len(app.received) == 1


def test_a_head_of_30_kb_fits_the_buffer(app: StandIn, serve: Serve) -> None:
    app.answer = OK + b"X-Long: " + b"x" * 30_000 + b"\r\n\r\n"
    assert len(get(serve()).headers["X-Long"]) == 30_000


def test_a_client_over_its_rate_gets_429(app: StandIn, serve: Serve) -> None:
    nginx = serve(rate_limit=RateLimit(enabled=True, requests_per_second=1, burst=2))
    statuses = [get(nginx).status_code for _ in range(8)]
    assert statuses[:3] == [200, 200, 200]
    assert 429 in statuses
    assert len(app.received) == statuses.count(200)


def test_a_client_with_too_many_headers_gets_400(app: StandIn, serve: Serve) -> None:
    nginx = serve(binary=choose_nginx("packaged").path, max_headers=20)
    for number, status in ((10, 200), (30, 400)):
        answer = get(nginx, headers={f"X-{it}": "x" for it in range(number)})
        assert answer.status_code == status
    assert len(app.received) == 1


# --- Answers --------------------------------------------------------------------------------------

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}


def chosen(answer: requests.Response) -> dict[str, str | None]:
    return {name: answer.headers.get(name) for name in SECURITY}


def test_a_location_with_a_header_of_its_own_sends_these_as_well(serve: Serve) -> None:
    newest = choose_nginx("packaged")
    assert newest.version is not None
    nginx = serve(
        binary=newest.path,
        nginx_version=newest.version,
        directives="location /own/ { add_header X-Own 1; return 204; }",
    )
    answer = get(nginx, "/own/")
    assert answer.headers["X-Own"] == "1"
    assert chosen(answer) == SECURITY


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found", b"500 Oops"])
def test_security_headers_come_with_every_status(app: StandIn, serve: Serve, status: bytes) -> None:
    app.answer = b"HTTP/1.1 " + status + b"\r\n\r\n"
    assert chosen(get(serve())) == SECURITY


def test_the_applications_own_security_headers_win(app: StandIn, serve: Serve) -> None:
    own = {
        "X-Content-Type-Options": "own",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    app.answer = OK + lines.encode() + b"\r\n"
    # Two of the same name would come as "DENY, SAMEORIGIN".
    assert chosen(get(serve())) == own


def test_nginx_does_not_tell_its_version(serve: Serve) -> None:
    assert get(serve()).headers["Server"] == "nginx"


def test_text_is_compressed_and_streams_and_trifles_are_not(app: StandIn, serve: Serve) -> None:
    nginx = serve()
    for kind, size, compressed in (
        (b"application/json", 2000, True),
        (b"application/json", 500, False),
        (b"text/event-stream", 2000, False),
        (b"image/png", 2000, False),
    ):
        body = b"x" * size
        length = str(size).encode()
        app.answer = (
            b"HTTP/1.1 200 OK\r\nContent-Type: "
            + kind
            + b"\r\nContent-Length: "
            + length
            + b"\r\n\r\n"
            + body
        )
        answer = get(nginx, headers={"Accept-Encoding": "gzip"}, stream=True)
        raw = answer.raw.read()
        assert (gzip.decompress(raw) if compressed else raw) == body
        assert ("Accept-Encoding" in answer.headers.get("Vary", "")) == compressed


def test_gzip_can_be_off(app: StandIn, serve: Serve) -> None:
    app.answer = OK + b"Content-Length: 2000\r\n\r\n" + b"x" * 2000
    answer = get(serve(gzip=False), headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers


def test_an_application_that_is_not_there_is_a_short_page(
    app: StandIn, serve: Serve, tmp_path: Path
) -> None:
    answer = get(serve(upstreams=(f"unix:{tmp_path}/none.sock",)))
    assert answer.status_code == 502
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "The application does not answer" in answer.text
    assert len(answer.content) < 500
    assert chosen(answer) == SECURITY


def test_an_error_of_the_applications_own_passes(app: StandIn, serve: Serve) -> None:
    app.answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nown words"
    answer = get(serve())
    assert (answer.status_code, answer.headers["Retry-After"], answer.text) == (
        503,
        "7",
        "own words",
    )


def test_an_upgraded_connection_is_a_tunnel(app: StandIn, serve: Serve) -> None:
    app.answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    app.echo = True
    with socket.create_connection(("127.0.0.1", serve().port), PATIENCE_SECONDS) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        with client.makefile("rb") as stream:
            assert stream.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
            while stream.readline() != b"\r\n":
                pass
            client.sendall(b"ping")
            assert stream.read(4) == b"ping"
            client.shutdown(socket.SHUT_WR)


# --- Several servers ------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "status", "tried"), [("GET", 200, 1), ("POST", 502, 0)])
def test_only_what_can_be_repeated_goes_to_the_next_server(
    app: StandIn,
    serve: Serve,
    stand_ins: Callable[[], StandIn],
    method: str,
    status: int,
    tried: int,
) -> None:
    app.answer = b""
    other = stand_ins()
    nginx = serve(upstreams=(app.address, other.address))
    answer = requests.request(method, nginx.url, timeout=PATIENCE_SECONDS)
    assert answer.status_code == status
    assert (len(app.received), len(other.received)) == (1, tried)


def test_a_unix_socket_with_an_odd_name_is_reached(
    app: StandIn, serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("s") / "a b;{#}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        stand_in = StandIn(listener)
        thread = threading.Thread(target=stand_in.run)
        thread.start()
        assert get(serve(upstreams=(f"unix:{path}",))).text == "hello"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_SECONDS)


# --- Static files ---------------------------------------------------------------------------------

ODD_NAMES = [
    "plain",
    "with space",
    "semi;colon",
    "curly}{",
    'double"quote',
    "single'quote",
    "back\\slash",
    "#hash",
    "é",
    "a\\\"; return 200 'taken'; #",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_nginx_reads_the_name_of_a_directory_as_it_is(
    app: StandIn, serve: Serve, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "file.css").write_text("a { color: red }")
    answer = get(
        serve(static=(StaticDirectory("/static/", str(tmp_path / name)),)), "/static/file.css"
    )
    assert answer.text == "a { color: red }"
    assert answer.headers["Content-Type"] == "text/css"
    assert not app.received


@pytest.fixture
def static(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "secret.txt").write_text("secret")
    www = tmp_path / "www"
    (www / "below").mkdir(parents=True)
    (www / ".git").mkdir()
    for path in ("a.js", "below/b.mjs", ".env", ".git/config", "below/.hidden"):
        (www / path).write_text(path)
    return {"static": (StaticDirectory("/static/", str(www)),)}


def test_static_files_may_be_kept_and_carry_the_security_headers(
    app: StandIn, serve: Serve, static: dict[str, object]
) -> None:
    answer = get(serve(**static), "/static/below/b.mjs")
    assert answer.text == "below/b.mjs"
    assert answer.headers["Cache-Control"] == "max-age=3600"
    assert answer.headers["Content-Type"] == "text/javascript"
    assert answer.headers["ETag"]
    assert chosen(answer) == SECURITY
    assert not app.received


@pytest.mark.parametrize("path", ["/static/.env", "/static/.git/config", "/static/below/.hidden"])
def test_hidden_files_are_not_there(
    app: StandIn, serve: Serve, static: dict[str, object], path: str
) -> None:
    assert get(serve(**static), path).status_code == 404
    assert not app.received


@pytest.mark.parametrize(
    "path", ["/static/none.css", "/static/", "/static/below", "/static/below/"]
)
def test_what_is_no_file_is_the_applications(
    app: StandIn, serve: Serve, static: dict[str, object], path: str
) -> None:
    answer = get(serve(**static), path)
    assert answer.text == "hello"
    assert "Cache-Control" not in answer.headers
    assert app.vars()["PATH_INFO"] == path


@pytest.mark.parametrize(
    "path", ["/static../secret.txt", "/static/../secret.txt", "/static/%2e%2e/secret.txt"]
)
def test_there_is_no_way_out_of_a_static_directory(
    serve: Serve, static: dict[str, object], path: str
) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert b"secret" not in say(serve(**static), request.encode()).partition(b"\r\n\r\n")[2]


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site_certificate(tmp_path_factory.mktemp("tls"))


def test_tls_is_spoken_and_plain_http_goes_there(
    app: StandIn, serve: Serve, certificate: Path
) -> None:
    with socket.socket() as held:
        # Bound, but not listening: Nginx can have this port, and nobody else gets it by chance.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        nginx = serve(
            tls=Tls(
                enabled=True,
                listen=(f"127.0.0.1:{port}",),
                certificate=str(certificate / "cert.pem"),
                certificate_key=str(certificate / "key.pem"),
            )
        )
    answer = requests.get(
        f"https://127.0.0.1:{port}/", timeout=PATIENCE_SECONDS, verify=str(certificate / "ca.pem")
    )
    assert answer.text == "hello"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert (app.vars()["HTTPS"], app.vars()["REQUEST_SCHEME"]) == ("on", "https")

    plain = say(
        nginx,
        b"POST /a?b HTTP/1.1\r\nHost: example.org\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )
    assert plain.startswith(b"HTTP/1.1 308 ")
    assert b"\r\nLocation: https://example.org/a?b\r\n" in plain
    assert b"Strict-Transport" not in plain
    assert len(app.received) == 1
