"""What an application is told of TLS, which Nginx ends: scheme, version, cipher suite, client certificate."""

from __future__ import annotations

import ast
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.sync.client import connect

from integration.asgi.conftest import Kind
from uwsgibridge.frontend.options import Tls
from uwsgibridge.testing import Site

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

# RFC 8446, appendix B.4.
SUITES_OF_TLS_1_3 = {0x1301, 0x1302, 0x1303}


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate, and its key."""

    path: Path
    key_path: Path


@pytest.fixture(scope="session")
def make_certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Certificate]:
    """Make a certificate for a name."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make certificates with")
    directory = tmp_path_factory.mktemp("tls")

    def make(name: str) -> Certificate:
        made = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", f"/O=Tests/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", made.key_path, "-out", made.path),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        return made

    return make


@pytest.fixture(scope="session")
def server_certificate(make_certificate: Callable[[str], Certificate]) -> Certificate:
    return make_certificate("server")


@pytest.fixture(scope="session")
def client_certificate(make_certificate: Callable[[str], Certificate]) -> Certificate:
    return make_certificate("client")


@pytest.fixture(scope="session")
def encrypted(
    serve: Callable[..., LocalStack],
    server_certificate: Certificate,
    client_certificate: Certificate,
) -> Iterator[int]:
    """The port where TLS is spoken."""
    with socket.socket() as held:
        # Bound, but not listening: Nginx can have this port, and nobody else gets it by chance.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        tls = Tls(
            enabled=True,
            listen=(f"127.0.0.1:{port}",),
            certificate=str(server_certificate.path),
            certificate_key=str(server_certificate.key_path),
            client_ca=str(client_certificate.path),
            http2=True,
        )
        serve("behaviours:application", Kind("asyncio", "unix"), site=Site(tls=tls))
        yield port


@pytest.fixture
def trust(server_certificate: Certificate) -> ssl.SSLContext:
    """A client that trusts the server, and has no certificate of its own."""
    return ssl.create_default_context(cafile=str(server_certificate.path))


def scope_over(port: int, trust: ssl.SSLContext, *, http2: bool = False) -> dict[str, Any]:
    with httpx.Client(verify=trust, trust_env=False, http2=http2) as client:
        answer = client.get(f"https://127.0.0.1:{port}/scope")
        assert answer.status_code == 200
        found: dict[str, Any] = ast.literal_eval(answer.text)
        return found


def test_a_client_without_a_certificate_is_told(encrypted: int, trust: ssl.SSLContext) -> None:
    scope = scope_over(encrypted, trust)
    assert scope["scheme"] == "https"
    assert scope["server"][1] == encrypted
    tls = scope["extensions"]["tls"]
    assert tls.pop("cipher_suite") in SUITES_OF_TLS_1_3
    assert tls == {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
    }


def test_the_certificate_of_a_client_is_told(
    encrypted: int, trust: ssl.SSLContext, client_certificate: Certificate
) -> None:
    trust.load_cert_chain(client_certificate.path, client_certificate.key_path)
    tls = scope_over(encrypted, trust)["extensions"]["tls"]
    (certificate,) = tls["client_cert_chain"]
    assert certificate.strip() == client_certificate.path.read_text().strip()
    assert tls["client_cert_name"] == "CN=client,O=Tests"
    assert tls["client_cert_error"] is None


def test_an_older_version_of_tls_is_told(encrypted: int, trust: ssl.SSLContext) -> None:
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    trust.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    tls = scope_over(encrypted, trust)["extensions"]["tls"]
    # RFC 5289: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256.
    assert (tls["tls_version"], tls["cipher_suite"]) == (0x0303, 0xC02F)


def test_http_2_over_tls_is_told(encrypted: int, trust: ssl.SSLContext) -> None:
    scope = scope_over(encrypted, trust, http2=True)
    assert scope["http_version"] == "2"
    assert scope["scheme"] == "https"
    assert scope["extensions"]["tls"]["tls_version"] == 0x0304


def test_tls_of_a_websocket_is_told(encrypted: int, trust: ssl.SSLContext) -> None:
    with connect(f"wss://127.0.0.1:{encrypted}/scope", ssl=trust, proxy=None) as peer:
        text = peer.recv()
        assert isinstance(text, str)
        scope = ast.literal_eval(text)
    assert scope["scheme"] == "wss"
    assert scope["extensions"]["tls"]["tls_version"] == 0x0304
