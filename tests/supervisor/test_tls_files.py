"""Certificates from the start of a service to its reload and upgrade, and the real Nginx in front of it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.bridge_process import BridgeProcess, run_to_its_end, running_process
from tests.certificates import Certificates
from tests.log_events import EVENT_SECONDS, PATIENCE_SECONDS
from tests.raw_client import connect, packet
from uwsgibridge.frontend.binary import choose_nginx

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")] if environ["PATH_INFO"] == "/length" else [])
    yield b"half of it"
    if environ["PATH_INFO"].startswith("/cut"):
        raise ValueError
"""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Give a directory that other users may search, with a short name for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    (tmp_path / "app.py").write_text(APP)
    return Certificates.make(tmp_path)


def options(certificates: Certificates) -> list[str]:
    directory = certificates.directory
    return [
        *("--bind-tls-certificate", str(directory / "server.pem")),
        *("--bind-tls-key", str(directory / "server.key")),
    ]


def served_by(bridge: BridgeProcess, authority: str) -> bool:
    """Tell whether a request is answered, by a certificate of this authority."""
    context = ssl.create_default_context(cafile=authority)
    with connect(bridge.address) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="backend") as connection:
                connection.sendall(packet())
                return connection.recv(12) == b"HTTP/1.1 200"
        except ssl.SSLCertVerificationError:
            return False


def test_a_reload_reads_the_files_again_and_what_is_wrong_changes_nothing(
    certificates: Certificates, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    Certificates.make(new)
    old_ca, new_ca = str(tmp_path / "ca.pem"), str(new / "ca.pem")
    with running_process(
        *("serve", "app:app", "--workers", "1", "--bind", "127.0.0.1:0"),
        *options(certificates),
        directory=tmp_path,
    ) as bridge:
        assert served_by(bridge, old_ca)
        (new / "server.key").rename(tmp_path / "server.key")
        bridge.signal(signal.SIGHUP)  # the key of another certificate
        bridge.events.wait(event="reload failed: the old code goes on")
        assert "the key is not the certificate's" in bridge.events.text()
        assert served_by(bridge, old_ca)
        (new / "server.pem").rename(tmp_path / "server.pem")
        bridge.signal(signal.SIGHUP)
        bridge.events.wait(event="reloaded")
        bridge.events.wait(event="generation has ended", generation=1)  # until then it may accept
        assert served_by(bridge, new_ca)
        assert not served_by(bridge, old_ca)
        assert bridge.stop() == 0


def test_files_that_can_not_be_read_again_stay_in_memory(
    certificates: Certificates, tmp_path: Path
) -> None:
    """So it is with root's, where the service has become another user; here they are gone."""
    ca = str(tmp_path / "ca.pem")
    with running_process(
        *("serve", "app:app", "--workers", "1", "--bind", "127.0.0.1:0"),
        *options(certificates),
        directory=tmp_path,
    ) as bridge:
        assert served_by(bridge, ca)
        (tmp_path / "server.key").unlink()
        bridge.signal(signal.SIGHUP)
        bridge.events.wait(event="certificates can't be read again: those in memory are used")
        bridge.events.wait(event="reloaded")
        assert served_by(bridge, ca)
        bridge.signal(signal.SIGUSR2)
        bridge.events.wait(event="upgraded")
        bridge.events.wait_many(2, event="reloaded")
        assert served_by(bridge, ca)
        assert bridge.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_a_key_that_root_alone_may_read_is_read_before_the_change_of_the_user(
    certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "server.key").chmod(0o600)
    with running_process(
        *("serve", "app:app", "--workers", "0", "--bind", "127.0.0.1:0", "--user", "nobody"),
        *options(certificates),
        directory=tmp_path,
    ) as bridge:
        assert served_by(bridge, str(tmp_path / "ca.pem"))
        assert bridge.stop() == 0


@pytest.mark.parametrize("workers", ["0", "1"])
def test_options_that_do_not_belong_together_end_the_start(
    workers: str, certificates: Certificates, tmp_path: Path
) -> None:
    ca = str(tmp_path / "ca.pem")
    for given, says in (
        (["--bind-tls-client-ca", ca], "TLS needs a --bind-tls-certificate"),
        ([*options(certificates), "--bind-tls-key", ca], "--bind-tls-key is given 2 times"),
    ):
        status, said = run_to_its_end(
            *("serve", "app:app", "--workers", workers, "--bind", "127.0.0.1:0"),
            *given,
            directory=tmp_path,
        )
        assert status == 2
        assert says in said


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("missing.key", "missing.key: No such file"),
        ("client.key", "the key is not the certificate's"),
        ("server.pem", "there is no certificate and key in PEM"),
    ],
)
def test_what_is_wrong_with_the_files_ends_the_start(
    key: str, says: str, workers: str, certificates: Certificates, tmp_path: Path
) -> None:
    given = options(certificates)
    given[-1] = str(tmp_path / key)
    status, said = run_to_its_end(
        *("serve", "app:app", "--workers", workers, "--bind", "127.0.0.1:0"),
        *given,
        directory=tmp_path,
    )
    assert status == 2
    assert says in said
    assert "--bind-tls-key" in said


# The real Nginx.


@contextmanager
def nginx(directory: Path, *locations: str) -> Iterator[Path]:
    """Run Nginx in front; give the path of its socket."""
    frontend = directory / "n.sock"
    temporary = " ".join(
        f"{it}_temp_path t_{it};" for it in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid nginx.pid; error_log stderr info; events {{}}\n"
        f"http {{ access_log off; {temporary.replace('client_body_temp', 'client_body_temp')}\n"
        f"server {{ listen unix:{frontend}; uwsgi_param REQUEST_METHOD $request_method;\n"
        "uwsgi_param PATH_INFO $uri; uwsgi_param SERVER_NAME x; uwsgi_param SERVER_PORT 80;\n"
        "uwsgi_param SERVER_PROTOCOL $server_protocol; uwsgi_param CONTENT_LENGTH $content_length;\n"
        f"uwsgi_ssl_verify on; uwsgi_ssl_name backend; uwsgi_ssl_trusted_certificate {directory}/ca.pem;\n"
        f"{' '.join(locations)} }} }}\n"
    )
    with (directory / "nginx.log").open("wb") as log:
        process = subprocess.Popen(
            [choose_nginx().path, "-p", directory, "-c", directory / "nginx.conf", "-e", "stderr"],
            stderr=log,
        )
    try:
        deadline = monotonic() + EVENT_SECONDS
        while not _answers(frontend):
            assert monotonic() < deadline, (directory / "nginx.log").read_text()
        yield frontend
    finally:
        process.terminate()
        process.wait(EVENT_SECONDS)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def get(frontend: Path, path: str) -> int | str:
    """Give the status, or ``cut`` for an answer that does not end."""
    connection = http.client.HTTPConnection("x", timeout=PATIENCE_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE_SECONDS)
    connection.sock.connect(str(frontend))
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    except http.client.IncompleteRead:
        return "cut"
    else:
        return answer.status
    finally:
        connection.close()


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_the_real_nginx(family: str, certificates: Certificates, tmp_path: Path) -> None:
    with ExitStack() as stack:
        bind = "127.0.0.1:0" if family == "tcp" else f"unix:{tmp_path}/b.sock"
        bridge = stack.enter_context(
            running_process(
                *("serve", "app:app", "--workers", "2", "--bind", bind),
                *options(certificates),
                *("--bind-tls-client-ca", str(tmp_path / "ca.pem")),
                directory=tmp_path,
            )
        )
        to = f"uwsgi_pass suwsgi://{bridge.address};"
        own = f"uwsgi_ssl_certificate {tmp_path}/client.pem; uwsgi_ssl_certificate_key {tmp_path}/client.key;"
        wrong = f"uwsgi_ssl_certificate {tmp_path}/other.pem; uwsgi_ssl_certificate_key {tmp_path}/other.key;"
        rest = "rewrite ^/[a-z]+(/.*) $1 break;"
        frontend = stack.enter_context(
            nginx(
                tmp_path,
                f"location / {{ {own} {to} }}",
                f"location /anew/ {{ {own} uwsgi_ssl_session_reuse off; {rest} {to} }}",
                f"location /none/ {{ {to} }}",
                f"location /wrong/ {{ {wrong} {to} }}",
                f"location /name/ {{ {own} uwsgi_ssl_name other; {to} }}",
                f"location /plain/ {{ uwsgi_pass {bridge.address}; }}",
            )
        )
        assert [get(frontend, "/") for _ in range(6)] == [200] * 6
        assert [get(frontend, "/anew/length") for _ in range(2)] == [200] * 2
        assert [get(frontend, "/cut") for _ in range(3)] == ["cut"] * 3
        assert get(frontend, "/anew/cut") == "cut"
        for number, (path, detail) in enumerate(
            (
                ("/none/", "peer did not return a certificate"),
                ("/wrong/", "certificate verify failed"),
                ("/plain/", "is no TLS"),
            ),
            1,
        ):
            assert get(frontend, path) in {400, 502}
            found = bridge.events.wait_many(number, event="refused: no TLS came about")
            assert any(detail in it["detail"] for it in found)
        assert get(frontend, "/name/") == 502
        assert bridge.stop() == 0
