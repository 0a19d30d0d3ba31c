"""`nginx --check --probe`: what really arrives through a running Nginx, and where that differs from its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from uwsgibridge.testing import LocalStack

# Logs each request that it sees.
APPLICATION: Final = """
import sys

def wsgi(environ, start_response):
    print("APPLICATION SAW", environ["PATH_INFO"], file=sys.stderr, flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the application"]

async def asgi(scope, receive, send):
    print("APPLICATION SAW", scope["path"], file=sys.stderr, flush=True)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the application"})
"""

DIRECTIVES: Final = """
location /other/ {
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_buffering off;
    uwsgi_request_buffering off;
    uwsgi_buffer_size 4k;
    client_max_body_size 1k;
}
location /reading/ {
    uwsgi_pass $uwsgibridge_upstream;
    if ($request_method = POST) { return 405; }
}
location /nginx/ { return 204; }
location /moved/ { return 301 /; }
"""

MOST_BODY_BYTES: Final = 20_000


@dataclass(frozen=True)
class Site:
    """A running Nginx, with the bridge behind it.

    Attributes:
        control: the control socket of the supervisor.
    """

    stack: LocalStack
    control: Path

    @property
    def file(self) -> Path:
        nginx = self.stack._nginx
        assert nginx is not None
        assert nginx.directory is not None
        return nginx.directory / "nginx.conf"

    def probe(self, url: str, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (
                *(sys.executable, "-m", "uwsgibridge", "nginx", "--check", str(file)),
                *("--probe", url, "--control-socket", str(self.control), *options),
            ),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def check(self, path: str, file: Path | None = None) -> Any:
        """Probe a path, and give the report."""
        done = self.probe(self.stack.url + path, file or self.file, "--format", "json")
        assert not done.stderr
        return json.loads(done.stdout)

    def refusal(self, url: str, file: Path) -> str:
        """Probe a URL in vain, and give what is said."""
        done = self.probe(url, file)
        assert done.returncode == 2, done.stdout
        return done.stderr


# Where one thread accepts by itself, and where workers do on their loops.
KINDS: Final[dict[str, Any]] = {
    "one-wsgi": ("wsgi", "unix", "auto", 1),
    "two-asgi": ("asgi", "tcp", "uvloop", 2),
}

on_each_kind = pytest.mark.parametrize("site", KINDS, indirect=True, scope="module")
on_one = pytest.mark.parametrize("site", ["one-wsgi"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    interface, socket, loop, workers = KINDS[request.param]
    directory = tmp_path_factory.mktemp("probe")
    (directory / "probed.py").write_text(APPLICATION)
    with LocalStack(
        f"probed:{interface}",
        app_dir=directory,
        interface=interface,
        socket=socket,
        loop=loop,
        serve_args=(
            *("--workers", str(workers), "--control-socket", str(directory / "control.sock")),
            *("--max-body-bytes", str(MOST_BODY_BYTES)),
        ),
        nginx_directives=DIRECTIVES,
    ) as stack:
        yield Site(stack, directory / "control.sock")


def found(report: Any) -> list[tuple[str, str]]:
    """What the probe has found: severity and reason."""
    return [
        (it["severity"], it["reason"])
        for file in report["files"]
        for it in file["findings"]
        if it["rule"] == "probe"
    ]


@on_each_kind
def test_what_arrives_is_told_and_no_application_sees_it(site: Site) -> None:
    answered: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not is_over.is_set():
                answered.append(session.get(f"{site.stack.url}/by/others", timeout=20).text)

    others = threading.Thread(target=ask)
    others.start()
    try:
        report = site.check("/some%20where/?a=b")
    finally:
        is_over.set()
        others.join()
    seen = report["probe"]
    assert seen["vars"]["PATH_INFO"] == "/some where/"
    assert seen["vars"]["REQUEST_URI"] == "/some%20where/?a=b"
    assert seen["vars"]["QUERY_STRING"] == "a=b"
    assert seen["vars"]["HTTP_USER_AGENT"] == "uwsgibridge"
    assert seen["vars"]["REMOTE_ADDR"] == "127.0.0.1"
    assert seen["is_response_buffered"]
    assert seen["is_request_buffered"]
    assert seen["passes_head"]
    assert seen["lets_body_in"]
    assert seen["body_bytes"] == MOST_BODY_BYTES
    assert found(report) == []
    # Other requests go on, to the application.
    assert set(answered) == {"the application"}
    assert "/some where/" not in site.stack.bridge_log


@on_one
def test_another_location_is_seen_as_it_is(site: Site) -> None:
    done = site.probe(f"{site.stack.url}/other/", site.file)
    for line in (
        "REQUEST_METHOD=GET",
        "answers are not buffered",
        "requests are not buffered",
        "a head of 32768 bytes (--frontend-buffer-bytes) does not pass",
        f"a body of {MOST_BODY_BYTES} bytes (--max-body-bytes) is refused by Nginx",
    ):
        assert f"    {line}\n" in done.stdout
    # All of that is what the file says, but the head, which fits no option of the bridge.
    (one,) = [it for it in done.stdout.splitlines() if it.endswith("[probe]")]
    assert "an answer whose head has 32768 bytes (--frontend-buffer-bytes) is a 502" in one
    assert done.returncode == 1


@on_one
@pytest.mark.parametrize("how", ["variable", "file"])
def test_the_supervisor_is_the_one_that_ctl_asks(site: Site, tmp_path: Path, how: str) -> None:
    environment = {**os.environ}
    if how == "variable":
        environment["UWSGIBRIDGE_CONTROL_SOCKET"] = str(site.control)
    else:
        (tmp_path / "uwsgibridge.toml").write_text(f'control_socket = "{site.control}"\n')
    done = subprocess.run(
        (
            *(sys.executable, "-m", "uwsgibridge", "nginx", "--check", str(site.file)),
            *("--probe", f"{site.stack.url}/other/"),
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env=environment,
    )
    assert "    REQUEST_METHOD=GET\n" in done.stdout
    assert not done.stderr


@on_one
def test_what_nginx_answers_itself_is_not_judged(site: Site) -> None:
    report = site.check("/reading/")
    seen = report["probe"]
    assert seen["is_response_buffered"]
    assert seen["is_request_buffered"] is seen["lets_body_in"] is None
    assert found(report) == []


@on_one
def test_a_file_that_is_not_in_force_is_told(site: Site, tmp_path: Path) -> None:
    text = site.file.read_text()
    changed = tmp_path / "nginx.conf"
    for old, new in (
        ("uwsgi_param REMOTE_PORT $remote_port;", "uwsgi_param REGION eu;"),
        ("uwsgi_param REQUEST_SCHEME $scheme;", "uwsgi_param REQUEST_SCHEME ftp;"),
        ("uwsgi_buffering on;", "uwsgi_buffering off;"),
        ("uwsgi_request_buffering on;", "uwsgi_request_buffering off;"),
        ("underscores_in_headers off;", "underscores_in_headers on;"),
        ("client_max_body_size 16m;", "client_max_body_size 2k;"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    changed.write_text(text)
    assert sorted(reason.split(":")[0] for _, reason in found(site.check("/", changed))) == [
        "REGION has not arrived",
        "REMOTE_PORT has arrived, which the file does not send here",
        "REQUEST_SCHEME has arrived as 'http'",
        f"a body of {MOST_BODY_BYTES} bytes (--max-body-bytes) is let in",
        "answers are held back until they are whole",
        "headers with underscores are dropped",
        "requests are held back until they are whole",
    ]


@on_one
def test_a_url_that_leads_elsewhere_is_refused(site: Site, tmp_path: Path) -> None:
    url = site.stack.url
    why = f"nothing in {site.file} leads it to an application: name the file that does"
    assert why in site.refusal(f"{url}/nginx/", site.file)
    assert why in site.refusal(f"{url}/moved/", site.file)
    # By this file, each of them would lead there.
    file = tmp_path / "nginx.conf"
    file.write_text(f"uwsgi_pass unix:{tmp_path}/app.sock;")
    assert f"Nginx redirects it to {url}/: name that URL" in site.refusal(f"{url}/moved/", file)
    said = site.refusal(f"{url}/nginx/", file)
    assert "no worker of this supervisor got the request, and the answer was 204" in said
    assert "a URL such as http://127.0.0.1/ is wanted" in site.refusal("ftp://x/", file)
    # Nobody listens at the port of "discard" here.
    assert "Connection refused" in site.refusal("http://127.0.0.1:9/", file)
    assert "TLS fails" in site.refusal(url.replace("http:", "https:"), file)
