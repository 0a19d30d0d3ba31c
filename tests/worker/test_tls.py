"""TLS at the listening sockets, seen from the frontend's side."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.bridge import on_each_loop, on_each_socket, running
from tests.certificates import Certificates
from tests.raw_client import connect, packet

LARGE = bytes(range(256)) * 8_000
EVENT = "refused: no TLS came about"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/cut":
        return cut(start_response)
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [LARGE] if path == "/large" else [hashlib.sha256(body).hexdigest().encode()]


def cut(start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [])
    yield b"half"
    raise ValueError("the other half")


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/cut":
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("the other half")
    answer = LARGE if scope["path"] == "/large" else hashlib.sha256(body).hexdigest().encode()
    await send({"type": "http.response.body", "body": answer})


on_each_app = pytest.mark.parametrize("app", [wsgi, asgi])


def sealed(address: str, context: ssl.SSLContext, **more: Any) -> ssl.SSLSocket:
    """Connect by TLS; an end without close_notify is an error, as is a record that makes no sense."""
    raw = connect(address)
    try:
        return context.wrap_socket(
            raw, server_hostname="backend", suppress_ragged_eofs=False, **more
        )
    except BaseException:
        raw.close()
        raise


def read(connection: ssl.SSLSocket) -> bytes:
    data = b""
    while piece := connection.recv(65_536):
        data += piece
    return data.partition(b"\r\n\r\n")[2]


@on_each_app
@on_each_loop
@on_each_socket
def test_requests_and_answers(app: Any, family: str, loop: str, certificates: Certificates) -> None:
    with running(app, family, loop=loop, lifespan="off", **certificates.options()) as bridge:
        for path, body in (("/", b""), ("/", b"x"), ("/", LARGE), ("/large", b"")):
            with sealed(bridge.address, certificates.client()) as connection:
                connection.sendall(packet(path, method="POST", content_length=len(body)) + body)
                digest = hashlib.sha256(body).hexdigest().encode()
                assert read(connection) == (LARGE if path == "/large" else digest)
    assert bridge.counters.refused == {}
    assert bridge.counters.client_gone == 0


@on_each_app
@on_each_loop
@on_each_socket
def test_an_answer_that_is_cut_does_not_end_like_one_that_is_whole(
    app: Any, family: str, loop: str, certificates: Certificates
) -> None:
    with (
        running(app, family, loop=loop, lifespan="off", **certificates.options()) as bridge,
        sealed(bridge.address, certificates.client()) as connection,
    ):
        connection.sendall(packet("/cut"))
        with pytest.raises(
            ssl.SSLError, match=r"(?i)bad record mac|decryption failed|record layer failure"
        ):
            read(connection)


@on_each_loop
@on_each_socket
@pytest.mark.parametrize(
    ("name", "detail"),
    [("client", ""), ("", "peer did not return"), ("other", "certificate verify failed")],
)
def test_certificates_of_clients(
    name: str, detail: str, family: str, loop: str, certificates: Certificates
) -> None:
    options = certificates.options(clients=True)
    with running(wsgi, family, loop=loop, **options) as bridge:
        try:
            with sealed(bridge.address, certificates.client(name)) as connection:
                connection.sendall(packet())
                served = bool(read(connection))
        except (ssl.SSLError, OSError):
            served = False
        if detail:
            event = bridge.events.wait(event=EVENT)
            assert detail in event["detail"]
            assert "Nginx sends" in event["hint"]
    assert served is not bool(detail)
    assert bridge.counters.refused == ({"tls_handshake": 1} if detail else {})
    assert bridge.counters.requests == served


@on_each_loop
@on_each_socket
def test_who_does_not_trust_the_certificate_is_told_of(
    family: str, loop: str, certificates: Certificates
) -> None:
    with running(wsgi, family, loop=loop, **certificates.options()) as bridge:
        with pytest.raises(ssl.SSLCertVerificationError):
            sealed(bridge.address, ssl.create_default_context())
        assert "unknown ca" in bridge.events.wait(event=EVENT)["detail"]
    assert bridge.counters.refused == {"tls_handshake": 1}


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("sent", [packet(), b"GET / HTTP/1.1\r\n\r\n"], ids=["uwsgi", "http"])
def test_what_is_no_tls_is_closed(
    sent: bytes, family: str, loop: str, certificates: Certificates
) -> None:
    with (
        running(wsgi, family, loop=loop, **certificates.options()) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(sent)
        assert connection.recv(1) == b""
        assert "suwsgi://" in bridge.events.wait(event=EVENT, reason="not_tls")["hint"]
    assert bridge.counters.refused == {"not_tls": 1}


@on_each_loop
@on_each_socket
def test_a_handshake_that_stands_still_is_ended(
    family: str, loop: str, certificates: Certificates
) -> None:
    options = {**certificates.options(), "tls_handshake_seconds": 0.05}
    with (
        running(wsgi, family, loop=loop, **options) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(b"\x16\x03\x01")
        assert connection.recv(1) == b""
        event = bridge.events.wait(event=EVENT)
    assert event["hint"] == "--tls-handshake-seconds"
    assert bridge.counters.refused == {"tls_handshake_timeout": 1}


def test_old_versions_are_refused(certificates: Certificates) -> None:
    context = certificates.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with running(wsgi, **certificates.options()) as bridge:
        with pytest.raises((ssl.SSLError, OSError)):
            sealed(bridge.address, context)
        assert "1.2" in bridge.events.wait(event=EVENT)["hint"]


def test_each_kind_of_key_has_its_certificate(certificates: Certificates) -> None:
    names = ("server", "rsa")
    options: dict[str, Any] = {
        "bind_tls_certificate": tuple(str(certificates.directory / f"{it}.pem") for it in names),
        "bind_tls_key": tuple(str(certificates.directory / f"{it}.key") for it in names),
    }
    with running(wsgi, **options) as bridge:
        for kind in ("ECDSA", "RSA"):
            context = certificates.client()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
            with sealed(bridge.address, context) as connection:
                assert kind in (connection.cipher() or ("",))[0]


def test_sessions_are_taken_up_again(certificates: Certificates) -> None:
    context = certificates.client("client")
    with running(wsgi, **certificates.options(clients=True)) as bridge:
        with sealed(bridge.address, context) as first:
            first.sendall(packet())
            assert read(first)
            session = first.session
        with sealed(bridge.address, context, session=session) as second:
            assert second.session_reused


@on_each_app
@on_each_loop
@on_each_socket
def test_a_client_that_has_gone_is_noticed(
    app: Any, family: str, loop: str, certificates: Certificates
) -> None:
    with running(app, family, loop=loop, lifespan="off", **certificates.options()) as bridge:
        connection = sealed(bridge.address, certificates.client())
        connection.sendall(packet("/large", method="POST", content_length=10))
        bridge.settle()
        connection.close()
        bridge.settle()
    assert bridge.counters.client_gone == 1


@on_each_loop
def test_a_stop_waits_for_the_end_of_the_answer(loop: str, certificates: Certificates) -> None:
    with running(asgi, "tcp", loop=loop, lifespan="off", **certificates.options()) as bridge:
        connection = sealed(bridge.address, certificates.client())
        connection.sendall(packet("/large"))
        first = connection.recv(1)
        bridge.begin_stop()
        assert len(first + read(connection)) >= len(LARGE)
        connection.close()


def test_a_port_without_tls_says_so_where_tls_comes(certificates: Certificates) -> None:
    with running(wsgi) as bridge:
        with pytest.raises((ssl.SSLError, OSError)):
            sealed(bridge.address, certificates.client())
        assert bridge.events.wait(event="refused")["reason"] == "tls_not_uwsgi"
