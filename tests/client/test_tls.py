"""TLS of the client, with the real bridge at the other end."""

from __future__ import annotations

import dataclasses
import io
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.bridge_process import running_process
from tests.certificates import Certificates
from tests.uwsgi_server import OK, PATIENCE_SECONDS, SHORT_SECONDS, Peer, listen, serving
from uwsgibridge.cli import main
from uwsgibridge.client import (
    ClientError,
    PingError,
    RequestError,
    Tls,
    TruncatedAnswerError,
    ping,
    request,
    stream,
)
from uwsgibridge.client.dialing import Deadline
from uwsgibridge.client.exchange import Exchange
from uwsgibridge.client.routing import route_to
from uwsgibridge.client.vars import build_vars
from uwsgibridge.protocol.packet import PONG, encode_packet

APP = """
import os, time

def app(environ, start_response):
    start_response("200 OK", [])
    yield b"first"
    if environ["PATH_INFO"] == "/cut":
        raise ValueError
    if environ["PATH_INFO"] == "/wait":
        deadline = time.monotonic() + 20
        while not os.path.exists(environ["QUERY_STRING"]) and time.monotonic() < deadline:
            time.sleep(0.005)
    while piece := environ["wsgi.input"].read(50_000):
        yield piece
    yield b"last"
"""


@dataclass(frozen=True)
class Bridges:
    """Addresses of bridges, and the directory of `Certificates`.

    Attributes:
        tls: speaks TLS.
        unix: speaks TLS on a unix socket.
        mutual: asks for a certificate, too.
        unix_mutual: asks for one on a unix socket.
        plain: speaks no TLS.
    """

    directory: Path
    tls: str
    unix: str
    mutual: str
    unix_mutual: str
    plain: str

    def client(self, name: str = "client") -> Tls:
        """Give what a client with such a certificate says."""
        return Tls(
            ca=self.directory / "ca.pem",
            name="backend",
            certificate=self.directory / f"{name}.pem",
            key=self.directory / f"{name}.key",
        )


@pytest.fixture(scope="module")
def bridges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridges]:
    directory = tmp_path_factory.mktemp("tls")
    (directory / "app.py").write_text(APP)
    (directory / "strangers").mkdir()
    Certificates.make(directory)
    Certificates.make(directory / "strangers")
    tls = ["--bind-tls-certificate", "server.pem", "--bind-tls-key", "server.key"]
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                running_process(
                    *("serve", "app:app", "--bind", "127.0.0.1:0", *options), directory=directory
                )
            )
            for options in (
                [*tls, "--bind", f"unix:{directory}/b.sock"],
                [*tls, "--bind-tls-client-ca", "ca.pem", "--bind", f"unix:{directory}/m.sock"],
                [],
            )
        ]
        addresses = [
            *started[0].wait_listening(2),
            *started[1].wait_listening(2),
            started[2].address,
        ]
        yield Bridges(directory, *addresses)
        assert [it.stop() for it in started] == [0] * 3


def test_a_ping_encrypts_and_verifies(bridges: Bridges) -> None:
    trusted = Tls(ca=bridges.directory / "ca.pem", name="backend")
    for address in (bridges.tls, bridges.unix):
        assert ping(address, tls=True) > 0
        assert ping(address, tls=trusted) > 0
    assert ping(bridges.mutual, tls=bridges.client()) > 0


def test_a_large_body_and_its_answer_pass_at_once(bridges: Bridges) -> None:
    sent = os.urandom(1024 * 1024) * 8
    for address in (bridges.mutual, bridges.unix):
        answer = request(address, method="PUT", body=sent, tls=bridges.client())
        assert answer.body == b"first" + sent + b"last"


def test_an_answer_is_read_as_it_comes(bridges: Bridges, tmp_path: Path) -> None:
    with stream(bridges.tls, f"/wait?{tmp_path}/go", tls=True) as answer:
        assert next(answer.chunks) == b"first"
        (tmp_path / "go").touch()
        assert b"".join(answer.chunks) == b"last"


@contextmanager
def exchanging(
    address: str, path: str, body: bytes, *, sndbuf_bytes: int = 0
) -> Iterator[Exchange]:
    """Send a request of this size, with a send buffer of the kernel of that size; give what its answer is read from."""
    deadline = Deadline(PATIENCE_SECONDS)
    route = route_to(address, tls=True)
    packet = encode_packet(build_vars(path, "POST", (), len(body), {}))
    with route.connect(deadline, RequestError) as connection:
        if sndbuf_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf_bytes)
        transport = route.transport(connection)
        with closing(
            Exchange(transport, packet, io.BytesIO(body), len(body), deadline)
        ) as exchange:
            yield exchange


def test_what_was_decrypted_and_not_read_is_no_reason_to_wait(
    bridges: Bridges, tmp_path: Path
) -> None:
    """A selector does not show it, and here nothing further comes."""
    with exchanging(bridges.tls, f"/wait?{tmp_path}/go", b"") as exchange:
        received = b""
        while not received.endswith(b"first"):
            received += exchange.read(1) or b""
        (tmp_path / "go").touch()
        assert exchange.read(100) == b"last"


def test_a_piece_that_the_kernel_takes_in_parts_goes_out_whole(bridges: Bridges) -> None:
    sent = os.urandom(1024 * 1024)
    for address in (bridges.tls, bridges.unix):
        with exchanging(address, "/", sent, sndbuf_bytes=4608) as exchange:
            assert exchange.readall().endswith(b"first" + sent + b"last")


def test_an_answer_that_is_cut_is_told(bridges: Bridges) -> None:
    with pytest.raises(TruncatedAnswerError, match="broke off after 5 bytes"):
        request(bridges.tls, "/cut", tls=True)


@pytest.mark.parametrize("call", [ping, request])
@pytest.mark.parametrize(
    ("bridge", "tls", "says"),
    [
        ("plain", lambda _: True, r"where TLS begins; .* --bind-tls-certificate\), leave --tls"),
        ("tls", lambda _: False, r"where it speaks TLS .* give --tls$"),
        (
            "tls",
            lambda it: Tls(ca=it.directory / "strangers/ca.pem", name="backend"),
            r"not verified by --tls-ca .*strangers/ca\.pem \(unable to get local issuer",
        ),
        (
            "tls",
            lambda it: Tls(ca=it.directory / "ca.pem"),
            r"is not for '127\.0\.0\.1': give --tls-name",
        ),
        (
            "tls",
            lambda it: Tls(ca=it.directory / "ca.pem", name="other.example"),
            r"is not for 'other\.example': give --tls-name",
        ),
        ("mutual", lambda _: True, r"asks for a client's certificate .* give --tls-certificate"),
        (
            "mutual",
            lambda it: it.client("other"),
            r"does not accept .* --tls-certificate .*/other\.pem \(.*unknown ca\): .* --bind-tls-client-ca",
        ),
    ],
)
def test_what_does_not_match_is_told(
    call: Callable[..., object],
    bridge: str,
    tls: Callable[[Bridges], Tls | bool],
    says: str,
    bridges: Bridges,
) -> None:
    address = getattr(bridges, bridge)
    with pytest.raises(ClientError, match=says) as raised:
        call(address, tls=tls(bridges))
    assert address in str(raised.value)


def test_a_refusal_that_comes_before_the_ping_was_sent_is_read(bridges: Bridges) -> None:
    """In TLS 1.3 the server refuses when the client is through; a fourth of such pings can't be sent any more."""
    for _ in range(30):
        with pytest.raises(PingError, match="asks for a client's certificate"):
            ping(bridges.unix_mutual, tls=True)


# Other servers.


def openssl(bridges: Bridges, *, asks_clients: bool = False) -> Callable[[Peer], None]:
    """Behave as a server that knows nothing newer than TLS 1.2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(bridges.directory / "server.pem", bridges.directory / "server.key")
    if asks_clients:
        context.load_verify_locations(bridges.directory / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED

    def behave(peer: Peer) -> None:
        with (
            suppress(ssl.SSLError),
            context.wrap_socket(peer.connection, server_side=True) as connection,
        ):
            connection.recv(100)
            connection.sendall(PONG)

    return behave


def test_another_server_of_tls(bridges: Bridges) -> None:
    with serving(openssl(bridges), "ipv4", Path()) as address:
        assert ping(address, tls=Tls(ca=bridges.directory / "ca.pem", name="backend")) > 0
    with (
        serving(openssl(bridges), "ipv4", Path()) as address,
        pytest.raises(RequestError, match=r"where it speaks TLS .* give --tls"),
    ):
        request(address)
    with (
        serving(openssl(bridges, asks_clients=True), "ipv4", Path()) as address,
        pytest.raises(PingError, match=r"refused the TLS handshake .* give --tls-certificate"),
    ):
        ping(address, tls=True)


def test_a_look_for_an_http_server_is_short_where_the_server_is_busy(bridges: Bridges) -> None:
    """It comes after a second of silence; a server of one thread shakes no hands meanwhile."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bridges.directory / "server.pem", bridges.directory / "server.key")
    listener, address = listen("ipv4", Path())

    def serve() -> None:
        with context.wrap_socket(listener.accept()[0], server_side=True) as first:
            with listener.accept()[0] as second:
                second.settimeout(PATIENCE_SECONDS)
                while second.recv(65_536):  # the client gives up
                    pass
            first.sendall(OK + b"Content-Length: 0\r\n\r\n")

    with listener:
        listener.settimeout(PATIENCE_SECONDS)
        thread = threading.Thread(target=serve)
        thread.start()
        assert request(address, tls=True, timeout_seconds=PATIENCE_SECONDS / 2).status == 200
        thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("call", [ping, request])
def test_a_server_that_says_by_an_alert_that_it_speaks_tls(call: Callable[[str], object]) -> None:
    """Go's crypto/tls does so; OpenSSL and the bridge close the connection without a word."""

    def behave(peer: Peer) -> None:
        peer.connection.recv(65_536)
        peer.send(bytes.fromhex("15 0301 0002 02 0a"))  # fatal, unexpected_message

    with (
        serving(behave, "ipv4", Path()) as address,
        pytest.raises(ClientError, match=f"{address} speaks TLS: give --tls"),
    ):
        call(address)


def test_a_server_of_another_protocol() -> None:
    def behave(peer: Peer) -> None:
        peer.connection.recv(65_536)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # as Nginx answers TLS on a port of HTTP

    with (
        serving(behave, "ipv4", Path()) as address,
        pytest.raises(PingError, match="something else than TLS: leave --tls"),
    ):
        ping(address, tls=True)


@pytest.mark.parametrize("family", ["ipv4", "unix"])
def test_a_handshake_has_the_deadline(family: str, tmp_path: Path) -> None:
    listener, address = listen(family, tmp_path)
    with listener, pytest.raises(PingError, match=r"no answer to TLS within 0\.1 s"):
        ping(address, tls=True, timeout_seconds=SHORT_SECONDS)


# The command line.


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_the_options_are_the_fields(bridges: Bridges) -> None:
    tls = bridges.client()
    options = [f"--tls-{key}={value}" for key, value in dataclasses.asdict(tls).items()]
    result = run("ping", bridges.mutual, "--quiet", *options)
    assert (result.output, result.exit_code) == ("", 0)
    result = run("request", bridges.mutual, "-d", "body", *options)
    assert (result.output, result.exit_code) == ("firstbodylast", 0)
    result = run("request", bridges.tls, "--tls")
    assert (result.output, result.exit_code) == ("firstlast", 0)
    result = run("ping", bridges.tls)
    assert result.exit_code == 1
    assert "give --tls" in result.stderr


@pytest.mark.parametrize("command", ["ping", "request"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--tls-ca absent.pem", "--tls-ca absent.pem: No such file"),
        ("--tls-ca client.key", "--tls-ca client.key: there is no certificate in PEM"),
        ("--tls-ca ca.pem", "beside --tls-ca, give --tls-name"),
        ("--tls-name=", "(--tls-name) is empty"),
        ("--tls-name .x", "'.x' is no host name"),
        ("--tls-key client.key", "give --tls-certificate, too"),
        ("--tls-certificate absent.pem", "--tls-certificate absent.pem: No such file"),
        ("--tls-certificate ca.pem", "--tls-certificate ca.pem: there is no certificate and key"),
        (
            "--tls-certificate client.pem --tls-key absent.key",
            "--tls-key absent.key: No such file",
        ),
        (
            "--tls-certificate client.pem --tls-key other.key",
            "--tls-key other.key: the key is not the certificate's",
        ),
    ],
)
def test_options_that_make_no_sense_are_2(
    command: str, options: str, says: str, bridges: Bridges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bridges.directory)
    result = run(command, "unix:/nowhere.sock", *options.split())
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_a_key_with_a_password_is_refused(bridges: Bridges, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key: Any = serialization.load_pem_private_key(
        (bridges.directory / "client.key").read_bytes(), None
    )
    (tmp_path / "locked.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    tls = dataclasses.replace(bridges.client(), key=tmp_path / "locked.key")
    with pytest.raises(ValueError, match=r"locked\.key: the key has a password"):
        ping(bridges.mutual, tls=tls)
