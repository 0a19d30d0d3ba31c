"""A configuration of gunicorn behind Nginx: with the lines that --explain prints, answers are those of gunicorn."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from uwsgibridge.frontend.binary import choose_nginx

PATIENCE_SECONDS = 60.0
PARAMS = Path("/etc/nginx/uwsgi_params")

pytestmark = pytest.mark.skipif(not PARAMS.exists(), reason="no distribution's Nginx is installed")

CONFIGURATION = """
import os

bind = "unix:app.sock"
workers = 1
threads = 2
timeout = 60
forwarded_allow_ips = "*"
os.environ["SITE_MODE"] = "of the file"


def post_fork(server, worker):
    os.environ["SITE_FORKED"] = "yes"
"""

APPLICATION = """
import json
import os

FORKED = os.environ.get("SITE_FORKED")


def application(environ, start_response):
    names = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "HTTP_X_ONE", "HTTP_COOKIE")
    told = {name: environ.get(name, "") for name in names}
    told["scheme"] = environ["wsgi.url_scheme"]
    told["mode"] = os.environ.get("SITE_MODE")
    told["forked"] = FORKED
    told["body"] = environ["wsgi.input"].read().decode()
    start_response("201 Made", [("Content-Type", "application/json"), ("X-Two", "2"), ("Set-Cookie", "a=b")])
    return [json.dumps(told, sort_keys=True).encode()]
"""

NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    {paths}
    server {{
        listen unix:{directory}/http.sock;
        {location}
    }}
}}
"""

PROXY = """
location / {
    proxy_pass http://unix:DIRECTORY/app.sock;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-Proto $scheme;
}
"""

REQUESTS: tuple[tuple[str, str, bytes | None, dict[str, str]], ...] = (
    ("GET", "/", None, {}),
    ("GET", "/a%20b/c%2Fd?x=%C3%A9&y", None, {"X-One": "1", "Cookie": "c=d"}),
    ("POST", "/form", b"one=1&two=2", {"Content-Type": "application/x-www-form-urlencoded"}),
    ("HEAD", "/", None, {}),
)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        site = Path(path)
        site.chmod(0o755)
        (site / "mysite.py").write_text(APPLICATION)
        (site / "gunicorn.conf.py").write_text(CONFIGURATION)
        shutil.copy(PARAMS, site / PARAMS.name)
        yield site


@contextmanager
def running(command: Sequence[str | Path], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=directory, close_fds=False)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def behind_nginx(
    command: Sequence[str], location: str, directory: Path
) -> list[tuple[object, ...]]:
    """Start a server, then Nginx, and ask; both are ended."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    configuration = directory / "nginx.conf"
    configuration.write_text(
        NGINX.format(
            directory=directory,
            user="user root;" if os.geteuid() == 0 else "",
            location=location,
            paths="\n".join(f"{it}_temp_path {directory}/{it};" for it in kinds),
        )
    )
    with (
        listening_for(directory / "app.sock") as listening,
        running([*command, "--bind", f"fd://{listening.fileno()}"], directory),
        running([choose_nginx().path, "-e", "stderr", "-c", configuration], directory) as nginx,
    ):
        return [ask(directory / "http.sock", nginx, *it) for it in REQUESTS]


@contextmanager
def listening_for(path: Path) -> Iterator[socket.socket]:
    """Listen in the place of a server that inherits the socket: who asks it before it is ready waits."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.set_inheritable(True)
        yield listening
    path.unlink(missing_ok=True)


def ask(
    path: Path,
    nginx: subprocess.Popen[bytes],
    method: str,
    target: str,
    body: bytes | None,
    headers: dict[str, str],
) -> tuple[object, ...]:
    from time import monotonic, sleep

    deadline = monotonic() + PATIENCE_SECONDS
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        while connection.connect_ex(str(path)):  # nothing tells when Nginx listens
            assert nginx.poll() is None
            assert monotonic() < deadline
            sleep(0.02)
        client = http.client.HTTPConnection("localhost")
        client.sock = connection
        client.request(method, target, body, {"Connection": "close", **headers})
        answer = client.getresponse()
        own = {"date", "server", "connection", "transfer-encoding", "content-length"}
        told = sorted((k.lower(), v) for k, v in answer.getheaders() if k.lower() not in own)
        return answer.status, answer.reason, told, answer.read()


def test_nginx_with_the_explained_lines_answers_as_before(directory: Path) -> None:
    bridge = [sys.executable, "-m", "uwsgibridge", "run-gunicorn", "mysite"]
    explained = subprocess.run(
        [*bridge, "--explain"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    ).stdout
    location = explained.partition("In Nginx:\n")[2]
    assert f"uwsgi_pass unix:{directory}/app.sock;" in location
    answers = behind_nginx(bridge, location, directory)
    assert [it[0] for it in answers] == [201] * len(REQUESTS)
    assert b'"forked": "yes"' in answers[0][3]  # type: ignore[operator] # it is the body
    if importlib.util.find_spec("gunicorn") is not None:
        gunicorn = [sys.executable, "-m", "gunicorn", "mysite", "--no-control-socket"]
        before = behind_nginx(gunicorn, PROXY.replace("DIRECTORY", str(directory)), directory)
        assert answers == before
