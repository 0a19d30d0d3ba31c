"""An Nginx whose workers are another user's, as Debian's www-data, reaches a unix socket of the bridge."""

from __future__ import annotations

import http.client
import os
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest

from uwsgibridge.frontend.binary import choose_nginx

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Nginx needs root to become another user")

NGINX_USER = pwd.getpwnam("nobody")
ANOTHER_USER = 54_324
PATIENCE_SECONDS = 60.0

APPLICATION = """
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getuid()).encode()]
"""

# What is to be loaded is, before the user changes: this Python may be in a directory of root's.
BRIDGE = """
import os, sys
import uwsgibridge.cli.serve, uwsgibridge.worker.process, uwsgibridge.cli.start
import uwsgibridge.supervisor.heritage, uwsgibridge.telemetry.logs
import uwsgibridge.hosts.asgi.host, uwsgibridge.hosts.asgi.lifespan, uwsgibridge.loop.choosing
from uwsgibridge.__main__ import main
if len(sys.argv) > 1 and sys.argv[1].isdecimal():
    user, group = int(sys.argv.pop(1)), int(sys.argv.pop(1))
    os.setgroups([group])
    os.setgid(user)
    os.setuid(user)
main()
"""

CONFIGURATION = """
user {user} {group};
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    {paths}
    server {{
        listen unix:{directory}/http.sock;
        location / {{
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_param REQUEST_URI $request_uri;
            uwsgi_param PATH_INFO $document_uri;
            uwsgi_param QUERY_STRING $query_string;
            uwsgi_param SERVER_NAME $server_name;
            uwsgi_param SERVER_PORT 80;
            uwsgi_param SERVER_PROTOCOL $server_protocol;
            uwsgi_pass unix:{socket};
        }}
    }}
}}
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        (Path(path) / "mysite.py").write_text(APPLICATION)
        yield Path(path)


@contextmanager
def running_nginx(directory: Path, path: Path) -> Iterator[None]:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    configuration = directory / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            directory=directory,
            socket=path,
            user=NGINX_USER.pw_name,
            group="" if NGINX_USER.pw_gid == 0 else _group_name(NGINX_USER.pw_gid),
            paths="\n".join(f"{it}_temp_path {directory}/{it};" for it in kinds),
        )
    )
    process = subprocess.Popen([choose_nginx().path, "-e", "stderr", "-c", str(configuration)])
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _group_name(gid: int) -> str:
    import grp

    return grp.getgrgid(gid).gr_name


def get(directory: Path) -> tuple[int, bytes]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(str(directory / "http.sock"))
        client = http.client.HTTPConnection("localhost")
        client.sock = connection
        client.request("GET", "/")
        answer = client.getresponse()
        return answer.status, answer.read()


def get_once_it_is_up(directory: Path, process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            found = get(directory)
        except OSError:
            found = (0, b"")
        if found[0] == 200:
            return found
        assert process.poll() is None, "the bridge has ended"
        assert monotonic() < deadline, found
        sleep(0.02)


@pytest.mark.parametrize(
    ("become", "options", "directory_owner", "uid"),
    [
        pytest.param((), ("--user", NGINX_USER.pw_name), 0, NGINX_USER.pw_uid, id="user-of-nginx"),
        pytest.param((), ("--socket-owner", NGINX_USER.pw_name), 0, 0, id="owner-by-root"),
        pytest.param(
            (),
            ("--user", str(ANOTHER_USER), "--group", str(NGINX_USER.pw_gid)),
            0, ANOTHER_USER, id="group-by-root",
        ),
        pytest.param(
            (str(ANOTHER_USER), str(NGINX_USER.pw_gid)),
            ("--socket-owner", f":{NGINX_USER.pw_gid}"),
            ANOTHER_USER, ANOTHER_USER, id="group-without-root",
        ),
        pytest.param(
            (str(ANOTHER_USER), str(NGINX_USER.pw_gid)),
            ("--group", str(NGINX_USER.pw_gid)),
            ANOTHER_USER, ANOTHER_USER, id="group-option-without-root",
        ),
    ],
)  # fmt: skip
def test_nginx_reaches_the_socket(
    directory: Path,
    become: tuple[str, ...],
    options: tuple[str, ...],
    directory_owner: int,
    uid: int,
) -> None:
    run = directory / "run"
    run.mkdir()
    os.chown(run, directory_owner, directory_owner)
    path = run / "mysite.sock"
    with running_nginx(directory, path):
        bridge = subprocess.Popen(
            [
                sys.executable, "-c", BRIDGE, *become, "serve", "mysite", "--workers", "0",
                "--bind", f"unix:{path}", *options,
            ],
            cwd=directory,
        )  # fmt: skip
        try:
            assert get_once_it_is_up(directory, bridge) == (200, str(uid).encode())
            assert path.stat().st_mode & 0o777 == 0o660
        finally:
            bridge.terminate()
            status = bridge.wait(PATIENCE_SECONDS)
        assert status == 0
