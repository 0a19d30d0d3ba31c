"""What ``uwsgibridge frontend`` prints: Apache and lighttpd take it, and requests reach an application by it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import requests
from click.testing import CliRunner

from integration.frontends.running import FRONTENDS, HERE, Frontend, Site, free_port, run_frontend
from integration.frontends.test_streams import assert_first_line_comes_alone
from tests.certificates import make_site_certificate
from uwsgibridge.cli.frontend import command
from uwsgibridge.testing import BridgeProcess, event_with

PATIENCE_SECONDS = 20.0
OTHERS = [one for one in FRONTENDS if one.family != "nginx"]
each_other = pytest.mark.parametrize("frontend", OTHERS, ids=str)

MODULES = (
    "mpm_event", "authz_core", "proxy", "proxy_uwsgi", "headers", "alias", "ssl", "proxy_balancer", "slotmem_shm",
    "lbmethod_byrequests",
)  # fmt: skip


def printed(family: str, *arguments: str) -> str:
    result = CliRunner().invoke(command, [family, *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def around_apache(directory: Path, site: str) -> str:
    """Write what Debian's apache2.conf has around a site."""
    modules = "\n".join(
        f"LoadModule {it}_module /usr/lib/apache2/modules/mod_{it}.so" for it in MODULES
    )
    account = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    return f"""
{modules}
{account}
ServerRoot {directory}
PidFile {directory}/apache.pid
DefaultRuntimeDir {directory}
ErrorLog {directory}/error.log
ServerName main.example
<Directory />
    AllowOverride None
    Require all denied
</Directory>
{site}
"""


def around_lighttpd(directory: Path, site: str, bind: str) -> str:
    """Write what Debian's lighttpd.conf has around a site."""
    return f"""
server.modules = ("mod_access", "mod_alias", "mod_redirect")
server.document-root = "{directory}"
server.bind = "{bind}"
server.errorlog = "{directory}/error.log"
server.upload-dirs = ("{directory}")
{site}
"""


VARIANTS = (
    (),
    ("--upstream", "unix:/run/my app.sock", "--server-name", "example.org", "--server-name", "*.example.org"),
    ("--upstream", "127.0.0.1:1", "--upstream", "[::1]:2", "--upstream", "unix:/run/a.sock", "--static", "/s/=/srv/my files",
     "--static", "/a.b/c/=/srv/c"),
    ("--client-max-body-bytes", "0", "--read-timeout-seconds", "3600"),
    ("--tls", "--tls-certificate", "{cert}", "--tls-certificate-key", "{key}", "--tls-listen", "127.0.0.1:{port}"),
    ("--tls", "--tls-certificate", "{cert}", "--tls-certificate-key", "{key}", "--tls-listen", "[::1]:{port}",
     "--server-name", "example.org", "--static", "/s/=/srv/files"),
)  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site_certificate(tmp_path_factory.mktemp("tls"))


@each_other
@pytest.mark.parametrize("arguments", VARIANTS, ids=lambda it: " ".join(it)[:30] or "plain")
def test_its_own_check_takes_what_is_printed(
    frontend: Frontend, arguments: tuple[str, ...], certificate: Path, tmp_path: Path
) -> None:
    if frontend.missing:
        pytest.skip(frontend.missing)
    port = str(free_port())
    given = [
        it.replace("{cert}", f"{certificate}/cert.pem")
        .replace("{key}", f"{certificate}/key.pem")
        .replace("{port}", port)
        for it in arguments
    ]
    _needs_tls(frontend, given)
    text = printed(frontend.family, "--listen", f"127.0.0.1:{free_port()}", *given)
    path = tmp_path / "frontend.conf"
    if frontend.family == "apache":
        path.write_text(around_apache(tmp_path, text))
        check = [frontend.command[0], "-t", "-f", str(path)]
    else:
        path.write_text(around_lighttpd(tmp_path, text, f"{tmp_path}/http.sock"))
        check = [frontend.command[0], "-tt", "-f", str(path)]
    done = subprocess.run(check, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).strip() in {"", "Syntax OK"}


def _needs_tls(frontend: Frontend, arguments: list[str]) -> None:
    module = Path("/usr/lib/lighttpd/mod_openssl.so")
    if "--tls" in arguments and frontend.family == "lighttpd" and not module.exists():
        pytest.skip("there is no mod_openssl")


# --- Running --------------------------------------------------------------------------------------

Start: TypeAlias = Callable[..., tuple[Site, BridgeProcess, Path]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Run a bridge, and a frontend before it with what is printed for it."""
    with contextlib.ExitStack() as running:
        top = Path(tempfile.mkdtemp(prefix="uwsgibridge-others-"))
        running.callback(shutil.rmtree, top, ignore_errors=True)
        top.chmod(0o755)

        def start(
            frontend: Frontend, *arguments: str, app: str = "told:application"
        ) -> tuple[Site, BridgeProcess, Path]:
            if frontend.missing:
                pytest.skip(frontend.missing)
            _needs_tls(frontend, list(arguments))
            directory = top / "frontend"
            directory.mkdir()
            static = ("--static", f"/static/={directory}/files")

            def write(directory: Path, address: str, upstream: str) -> str:
                first = () if "--upstream" in arguments else ("--upstream", f"unix:{upstream}")
                if frontend.family == "apache":
                    listen = ("--listen", address)
                    return around_apache(
                        directory, printed("apache", *first, *listen, *static, *arguments)
                    )
                text = printed("lighttpd", *first, *static, *arguments)
                return around_lighttpd(directory, text, address)

            bind = ("--bind", f"unix:{top}/bridge.sock", "--socket-mode", "666", "--workers", "0")
            bridge = running.enter_context(
                BridgeProcess(app, "--app-dir", str(HERE / "apps"), *bind)
            )
            site = run_frontend(frontend, directory, f"{top}/bridge.sock", write)
            return running.enter_context(site), bridge, directory

        yield start


@each_other
def test_requests_reach_the_application(start: Start, frontend: Frontend) -> None:
    site, _, directory = start(
        frontend, "--server-name", "example.com", "--client-max-body-bytes", "2048"
    )
    answer = site.ask("/caf%C3%A9/x?a=b", method="POST", body=b"12345")
    environ = answer.environ()
    assert answer.json()["body"] == "12345"
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/caf\u00e9/x"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["QUERY_STRING"] == "a=b"
    assert environ["HTTP_HOST"] == "example.com:8080"
    assert environ["SERVER_NAME"] == "example.com"
    assert environ["wsgi.url_scheme"] == "http"
    if frontend.family == "apache":
        # What a client says it asks for is no fact about the server.
        environ = site.ask("/", host="other.example:77").environ()
        assert environ["SERVER_NAME"] == "example.com"
        assert environ["SERVER_PORT"] not in {"77", "80"}
    assert site.ask("/", method="POST", body=b"x" * 2049).status == 413

    (directory / "files" / ".env").write_text("secret")
    assert site.ask("/static/page").body == b"the page"
    assert site.ask("/static/none").status == 404
    assert site.ask("/static/.env").status == (404 if frontend.family == "apache" else 403)
    (directory / "beside").write_text("kept to itself")
    for way_out in ("/static/../beside", "/static/..%2fbeside", "/static/%2e%2e/beside"):
        assert b"kept to itself" not in site.ask(way_out).body


@each_other
def test_streams_come_line_by_line_and_websockets_are_refused_in_words(
    start: Start, frontend: Frontend
) -> None:
    site, bridge, _ = start(frontend, app="lines:asgi")
    assert_first_line_comes_alone(site, "/lines?type=text/plain")
    handshake = (
        "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = site.send(handshake.encode())
    assert answer.status == 501
    assert b"Let Nginx pass them" in answer.body
    bridge.wait_for_event(event_with(event="refused", reason="websocket_frontend"))


@pytest.mark.parametrize("frontend", [it for it in OTHERS if it.family == "apache"], ids=str)
def test_apache_sends_security_headers_where_the_application_sends_none(
    start: Start, frontend: Frontend
) -> None:
    site, _, _ = start(frontend)
    assert site.ask("/").headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    answer = site.ask("/", ("X-Answer", "own-headers"))
    assert answer.status == 404
    assert answer.headers.get_all("X-Frame-Options") == ["DENY"]
    assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]


@each_other
def test_a_bridge_that_comes_back_is_asked_soon(start: Start, frontend: Frontend) -> None:
    address = f"127.0.0.1:{free_port()}"
    site, _, _ = start(frontend, "--upstream", address)
    assert site.ask("/").status == 503
    with BridgeProcess(
        "told:application", "--app-dir", str(HERE / "apps"), "--bind", address, "--workers", "0"
    ):
        deadline = time.monotonic() + 5
        while site.ask("/").status != 200:
            assert time.monotonic() < deadline


@each_other
def test_plain_http_goes_to_tls(start: Start, frontend: Frontend, certificate: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    pair = (
        "--tls-certificate",
        f"{certificate}/cert.pem",
        "--tls-certificate-key",
        f"{certificate}/key.pem",
    )
    site, _, _ = start(frontend, "--tls", *pair, "--tls-listen", address)
    plain = site.ask("/a?b=c", host="example.org", method="POST", body=b"x")
    assert (plain.status, plain.headers["Location"]) == (308, "https://example.org/a?b=c")
    answer = requests.get(
        f"https://{address}/a", verify=str(certificate / "ca.pem"), timeout=PATIENCE_SECONDS
    )
    assert answer.json()["scheme"] == "https"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers.get("X-Frame-Options") == (
        "SAMEORIGIN" if frontend.family == "apache" else None
    )


@each_other
def test_another_bridge_is_asked_where_one_is_gone(start: Start, frontend: Frontend) -> None:
    gone = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        bind = ("--bind", f"unix:{directory}/second.sock", "--socket-mode", "666", "--workers", "0")
        with BridgeProcess("told:application", "--app-dir", str(HERE / "apps"), *bind):
            site, _, _ = start(
                frontend, "--upstream", gone, "--upstream", f"unix:{directory}/second.sock"
            )
            assert [site.ask("/").status for _ in range(6)] == [200] * 6
