"""Every form of configuration is one that a real Nginx accepts, and ``nginx/`` is what is rendered."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from uwsgibridge.frontend.binary import choose_nginx
from uwsgibridge.frontend.config import (
    PrivateFiles,
    render_compose_files,
    render_private,
    render_site,
    render_site_files,
)
from uwsgibridge.frontend.options import RateLimit, Site, StaticDirectory, StatusLocation, Tls

DEPLOYED = Path(__file__).parents[2] / "nginx"

SITES = {
    "default": Site(),
    "socket": Site(upstreams=("unix:/run/my app.sock",)),
    "several": Site(upstreams=("127.0.0.1:1", "127.0.0.1:2", "[::1]:3", "unix:/run/a;b.sock")),
    "resolver": Site(upstreams=("no-such-name:3031",), resolver="127.0.0.11"),
    "offload": Site(offload=(StaticDirectory("/protected", "/srv/my files"),)),
    "status": Site(
        status=StatusLocation(address="unix:/run/my status.sock", allow=("10.0.0.0/8", "fd00::/8"))
    ),
    "static": Site(
        static=(
            StaticDirectory("/static", "/srv/my site"),
            StaticDirectory("/a/b", '/srv/"q" \\ {#}'),
        )
    ),
    "rate": Site(rate_limit=RateLimit(enabled=True)),
    "plain": Site(
        gzip=False, client_max_body_bytes=0, request_buffering=False, response_buffering=False
    ),
    "names": Site(server_names=("example.org", "*.example.org"), name="other"),
}


def complaints(tmp_path: Path, text: str) -> list[str]:
    """Let a real Nginx check a configuration, and give the lines that say more than that it is fine."""
    path = tmp_path / "nginx.conf"
    path.write_text(text)
    done = subprocess.run(
        [choose_nginx().path, "-t", "-q", "-e", "stderr", "-p", tmp_path, "-c", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    lines = done.stderr.splitlines()
    assert lines or done.returncode == 0
    return lines


def whole(tmp_path: Path, http: str) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    return f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {paths} {http} }}"


def on_sockets(text: str, tmp_path: Path, *listens: str) -> str:
    for number, listen in enumerate(listens):
        assert f"listen {listen};" in text
        text = text.replace(f"listen {listen};", f"listen unix:{tmp_path}/{number}.sock;")
    return text


@pytest.mark.parametrize("site", SITES.values(), ids=SITES.keys())
def test_nginx_accepts_a_site_as_one_file(site: Site, tmp_path: Path) -> None:
    assert not complaints(tmp_path, whole(tmp_path, on_sockets(render_site(site), tmp_path, "80")))


@pytest.mark.parametrize("site", SITES.values(), ids=SITES.keys())
def test_nginx_accepts_a_site_as_files(site: Site, tmp_path: Path) -> None:
    for path, text in render_site_files(site).items():
        target = tmp_path / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(on_sockets(text, tmp_path, "80") if path.startswith("conf.d") else text)
    assert not complaints(tmp_path, whole(tmp_path, "include conf.d/*.conf;"))


@pytest.mark.parametrize("site", SITES.values(), ids=SITES.keys())
def test_nginx_accepts_a_site_of_a_private_one(site: Site, tmp_path: Path) -> None:
    files = PrivateFiles(directory=tmp_path, ready_socket=tmp_path / "ready.sock")
    assert not complaints(tmp_path, on_sockets(render_private(site, files), tmp_path, "80"))


@pytest.mark.parametrize(
    ("version", "lines"),
    [
        (None, {"listen 443 ssl;", "http2 on;"}),
        ((1, 25, 1), {"listen 443 ssl;", "http2 on;"}),
        ((1, 25, 0), {"listen 443 ssl http2;"}),
        ((1, 22, 1), {"listen 443 ssl http2;"}),
    ],
)
def test_http_2_is_written_as_a_version_understands_it(
    version: tuple[int, int, int] | None, lines: set[str]
) -> None:
    text = render_site(Site(tls=Tls(enabled=True, http2=True), nginx_version=version))
    said = {line.strip() for line in text.splitlines() if "443" in line or "http2" in line}
    said = {line for line in said if not line.startswith(("return", "#"))}
    assert said == lines
    without = render_site(Site(tls=Tls(enabled=True), nginx_version=version))
    assert not [
        line
        for line in without.splitlines()
        if "http2" in line and not line.strip().startswith("#")
    ]


@pytest.mark.parametrize(
    ("version", "line"),
    [
        (None, "# add_header_inherit merge;"),
        ((1, 29, 2), "# add_header_inherit merge;"),
        ((1, 29, 3), "add_header_inherit merge;"),
    ],
)
def test_headers_are_merged_where_a_version_can(
    version: tuple[int, int, int] | None, line: str
) -> None:
    lines = [it.strip() for it in render_site(Site(nginx_version=version)).splitlines()]
    (found,) = [it for it in lines if "add_header_inherit" in it]
    assert found.startswith(line)


def test_two_sites_live_in_one_nginx(tmp_path: Path) -> None:
    sites = (Site(), Site(name="other", server_names=("other.example",)))
    http = "\n".join(render_site(site) for site in sites)
    assert not complaints(tmp_path, whole(tmp_path, on_sockets(http, tmp_path, "80")))


def compose_complaints(tmp_path: Path, files: dict[str, str]) -> list[str]:
    main = files["nginx.conf"]
    # The container's own places are not this machine's.
    for place in ("/tmp/", "/dev/stdout"):
        assert place in main
    main = main.replace("/dev/stdout", "/tmp/access.log").replace("/tmp/", f"{tmp_path}/")
    main = on_sockets(main, tmp_path, "127.0.0.1:8081")
    site = on_sockets(files["conf.d/uwsgibridge.conf"], tmp_path, "8080")
    for path, text in {**files, "conf.d/uwsgibridge.conf": site}.items():
        target = tmp_path / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
    return complaints(tmp_path, main)


def switched_on(name: str) -> dict[str, str]:
    files = render_compose_files()
    include = f"include uwsgibridge/{name}.conf;"
    site = files["conf.d/uwsgibridge.conf"]
    assert f"# {include}" in site
    return {**files, "conf.d/uwsgibridge.conf": site.replace(f"# {include}", include)}


@pytest.mark.parametrize("upstream", ["upstream", "upstream_unix"])
def test_nginx_accepts_what_compose_deploys(upstream: str, tmp_path: Path) -> None:
    files = render_compose_files()
    files["uwsgibridge/upstream.conf"] = files[f"uwsgibridge/{upstream}.conf"]
    assert not compose_complaints(tmp_path, files)


def test_the_rate_limit_of_compose_needs_its_include_alone(tmp_path: Path) -> None:
    assert not compose_complaints(tmp_path, switched_on("rate_limit"))


def test_tls_of_compose_needs_its_include_and_a_certificate_alone(tmp_path: Path) -> None:
    # Certificates are loaded when everything else has been read.
    said = compose_complaints(tmp_path, switched_on("tls"))
    errors = [line for line in said if "[emerg]" in line]
    assert errors
    assert all("/etc/nginx/tls/fullchain.pem" in line for line in errors), errors


def test_what_is_deployed_is_what_is_rendered() -> None:
    deployed = {
        str(path.relative_to(DEPLOYED)): path.read_text("utf-8")
        for path in DEPLOYED.rglob("*")
        if path.is_file() and path.name != "compose.unix.yaml"
    }
    assert deployed == render_compose_files(), (
        "make them equal: uwsgibridge nginx --compose --force --output nginx"
    )


def test_only_root_says_as_whom_the_workers_run(tmp_path: Path) -> None:
    files = PrivateFiles(directory=tmp_path, ready_socket=tmp_path / "ready.sock")
    assert "user " not in render_private(Site(), files).splitlines()[3]
    as_root = PrivateFiles(
        directory=tmp_path, ready_socket=tmp_path / "ready.sock", account=("root", "wheel")
    )
    assert "user root wheel;" in render_private(Site(), as_root).splitlines()


def test_further_directives_stand_in_the_server_of_the_site(tmp_path: Path) -> None:
    files = PrivateFiles(directory=tmp_path, ready_socket=tmp_path / "ready.sock")
    own = "location /own/ {\n    return 204;\n}"
    lines = [it.strip() for it in render_private(Site(), files, own).splitlines()]
    at = lines.index("location /own/ {")
    assert lines[at + 1 : at + 3] == ["return 204;", "}"]
    assert at < lines.index("location / {")
    assert "server_name localhost;" in lines[:at]
