"""What ``uwsgibridge nginx`` prints: each Nginx takes what is printed for its version, and ``--check`` finds nothing in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from integration.frontends.conftest import NGINXES, each_nginx
from integration.frontends.running import HERE, Frontend, version_of
from tests.certificates import make_site_certificate
from uwsgibridge.cli.nginx import command
from uwsgibridge.testing import BridgeProcess
from uwsgibridge.testing.engine import docker_command

TWO = ("--upstream", "127.0.0.1:3031", "--upstream", "unix:/run/my app.sock")
NAMES = ("--upstream", "app.internal:3031", "--upstream", "127.0.0.1:3031")
TLS = ("--tls", "--server-name", "example.org")

# Names of sites, with the arguments that make them.
SITES = {
    "plain": (),
    "least_conn": (*TWO, "--balance", "least-conn"),
    "least_time": (*TWO, "--balance", "least-time"),
    "sticky": (*TWO, "--sticky", "--drain", "127.0.0.1:3031"),
    "sticky_tls": (*TWO, *TLS, "--sticky", "route", "--balance", "least-conn"),
    "variable": ("--upstream", "app.internal:3031", "--resolver", "127.0.0.11"),
    "resolve": (*NAMES, "--resolver", "127.0.0.11", "--resolve"),
    "canary": (*TWO, "--canary", "127.0.0.1:3033", "--canary-percent", "0.25"),
    "resolved_canary": (*NAMES, "--resolver", "[::1]", "--resolve", "--canary", "new.internal:1"),
    "cache": ("--cache", "/var/cache/nginx/pages", "--static", "/static/=/srv/my files"),
    "mutual_cache": (*TLS, "--tls-client-ca", "/etc/nginx/tls/ca.pem", "--cache", "/var/cache/nginx/more"),
    "max_headers": ("--max-headers", "100"),
    "http2": (*TLS, "--http2"),
    "http3": (*TLS, "--http2", "--http3"),
    "acme": (*TLS, "--acme", "--acme-resolver", "127.0.0.53", "--acme-contact", "ops@example.org"),
    "status": ("--status", "--offload", "/files/=/srv/files", "--rate-limit", "5"),
}  # fmt: skip
# The first version that has what a site needs, by nginx's CHANGES, and the option that says so.
SINCE = {
    "least_time": ((1, 31, 0), "--balance least-time"),
    "sticky": ((1, 29, 6), "--sticky"),
    "sticky_tls": ((1, 29, 6), "--sticky"),
    "resolve": ((1, 27, 3), "--resolve"),
    "resolved_canary": ((1, 27, 3), "--resolve"),
    "max_headers": ((1, 29, 8), "--max-headers"),
    "http3": ((1, 25, 0), "--http3"),
    "acme": ((1, 25, 0), "--acme"),
}


def ask_for(name: str, *more: str) -> Result:
    return CliRunner().invoke(command, ["--name", name, *SITES[name], *more])


def inner(text: str) -> str:
    """Take out what the module for ACME knows, which no Nginx here has."""
    text = re.sub(r"^acme_issuer [^}]*\}$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ *acme_certificate .*", "", text, flags=re.MULTILINE)
    for variable, file in (
        ("$acme_certificate_key", "privkey"),
        ("$acme_certificate", "fullchain"),
    ):
        text = text.replace(f"{variable};", f"/etc/nginx/tls/{file}.pem;")
    return text


def on_sockets(text: str, directory: Path, name: str) -> str:
    """Have a site listen at sockets of its own, and for QUIC at a free port."""
    text = re.sub(r"listen (\d+)( ssl.*)?;", rf"listen unix:{directory}/{name}.\1.sock\2;", text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return re.sub(r"listen \d+ quic", f"listen 127.0.0.1:{one.getsockname()[1]} quic", text)


def output_of(frontend: Frontend, directory: Path, *arguments: str) -> str:
    """Run a frontend for what it says."""
    command = [it.replace("{directory}", str(directory)) for it in frontend.command]
    done = subprocess.run(
        [*command[:-1], *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site_certificate(tmp_path_factory.mktemp("tls"))


@each_nginx
def test_each_nginx_takes_what_is_printed_for_its_version(
    frontend: Frontend, certificate: Path, tmp_path: Path
) -> None:
    if frontend.missing:
        pytest.skip(frontend.missing)
    version = version_of(frontend)
    shown = ".".join(map(str, version))
    directory = tmp_path / "conf"
    directory.mkdir()
    has_http3 = "http_v3_module" in output_of(frontend, directory, "-V")
    http = []
    for name in SITES:
        result = ask_for(name, "--nginx-version", shown)
        since, option = SINCE.get(name, ((0, 0, 0), ""))
        if version < since:
            assert result.exit_code == 2
            assert f"{option} needs nginx {'.'.join(map(str, since))}" in result.stderr
            assert shown in result.stderr
            continue
        assert result.exit_code == 0, result.stderr
        if name != "http3" or has_http3:
            http.append(on_sockets(inner(result.stdout), directory, name))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    text = "\n".join(http).replace("/var/cache/nginx/", f"{directory}/")
    for name, file in (("fullchain", "cert"), ("ca", "cert"), ("privkey", "key")):
        shutil.copy(certificate / f"{file}.pem", directory)
        text = text.replace(f"/etc/nginx/tls/{name}.pem", f"{directory}/{file}.pem")
    main = directory / "nginx.conf"
    main.write_text(
        f"pid {directory}/pid; events {{}} http {{ access_log off; variables_hash_max_size 4096; {paths}\n{text}\n}}\n"
    )
    arguments = ("-t", "-q", "-e", "stderr", "-p", str(directory), "-c", str(main))
    assert output_of(frontend, directory, *arguments) == ""


@pytest.mark.parametrize("frontend", [it for it in NGINXES if "image" in it.name], ids=str)
def test_a_request_of_http_3_reaches_the_application_with_its_host(
    frontend: Frontend, certificate: Path
) -> None:
    """A client of HTTP/3 sends no Host header, which nginx before 1.29.5 would let be missing."""
    if frontend.missing:
        pytest.skip(frontend.missing)
    version = ".".join(map(str, version_of(frontend)))
    image, docker = frontend.command[-2], docker_command()
    client = (docker, "run", "--rm", "--entrypoint", "curl")
    curl = os.environ.get("NGINX_IMAGE", image)
    told = subprocess.run(
        [*client, curl, "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    if "HTTP3" not in told.stdout:
        pytest.skip(f"{curl} has no curl with HTTP/3")
    with contextlib.ExitStack() as running:
        top = Path(tempfile.mkdtemp(prefix="uwsgibridge-http3-"))
        running.callback(shutil.rmtree, top, ignore_errors=True)
        top.chmod(0o755)
        bind = ("--bind", f"unix:{top}/bridge.sock", "--socket-mode", "666", "--workers", "0")
        running.enter_context(
            BridgeProcess("told:application", "--app-dir", str(HERE / "apps"), *bind)
        )
        for file in ("cert.pem", "key.pem"):
            shutil.copy(certificate / file, top)
        files = ("--tls-certificate", f"{top}/cert.pem", "--tls-certificate-key", f"{top}/key.pem")
        upstream = ("--upstream", f"unix:{top}/bridge.sock", "--nginx-version", version)
        site = ask_for("http3", *files, *upstream)
        assert site.exit_code == 0, site.stderr
        (top / "nginx.conf").write_text(f"daemon off; events {{}} http {{ {site.stdout} }}")
        name = f"uwsgibridge-http3-{secrets.token_hex(6)}"
        started = (docker, "run", "--detach", "--rm", "--network", "none", "--name", name)
        where = ("--volume", f"{top}:{top}", "--entrypoint", "nginx")
        subprocess.run(
            [*started, *where, image, "-c", f"{top}/nginx.conf"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        running.callback(
            subprocess.run, [docker, "kill", name], check=False, capture_output=True, timeout=60
        )
        ask = (
            "--http3-only",
            "--silent",
            "--show-error",
            "--include",
            "--insecure",
            "--max-time",
            "20",
        )
        there = (
            "--retry",
            "20",
            "--retry-all-errors",
            "--retry-delay",
            "1",
            "--resolve",
            "example.org:443:127.0.0.1",
        )
        done = subprocess.run(
            [*client[:3], "--network", f"container:{name}", *client[3:], curl, *ask, *there, "https://example.org/a"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.replace("\r", "").partition("\n\n")
    assert head.startswith("HTTP/3 200")
    assert 'alt-svc: h3=":443"; ma=86400' in head
    assert "strict-transport-security: max-age=31536000" in head
    environ = json.loads(body)["environ"]
    assert environ["HTTP_HOST"] == "example.org"
    assert environ["SERVER_PROTOCOL"] == "HTTP/3.0"
    assert environ["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize("name", SITES)
def test_the_check_finds_nothing_in_what_is_printed(name: str, tmp_path: Path) -> None:
    printed = ask_for(name)
    assert printed.exit_code == 0
    sets = CliRunner().invoke(command, ["--name", name, *SITES[name], "--output", str(tmp_path)])
    assert sets.exit_code == 0
    (tmp_path / "nginx.conf").write_text("events {} http { include conf.d/*.conf; }")
    for file, text in (("-", printed.stdout), (str(tmp_path / "nginx.conf"), None)):
        result = CliRunner().invoke(command, ["--check", file, "--strict"], input=text)
        assert result.exit_code == 0, result.stdout
        first, *more = result.stdout.splitlines()
        assert re.fullmatch(
            "[1-9] ways? leads? to an application: 0 errors, 0 warnings, 0 notices", first
        )
        assert not more
