"""One Nginx with a location for each scenario, and all that stands behind them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from integration.explaining.scenarios import SCENARIOS
from integration.explaining.upstreams import (
    PATIENCE_SECONDS,
    FailingServer,
    NameServer,
    full_backlog,
)
from integration.frontends.configurations import UWSGI_PARAMS
from integration.frontends.running import Frontend

# Of the bridge, in front of which Nginx stands as well.
BRIDGE_LOCATIONS: Final = """
location /bridge/ { %(params)s client_max_body_size 0; uwsgi_pass unix:%(bridge)s; }
location /bridge/impatient/ { %(params)s uwsgi_read_timeout 300ms; uwsgi_pass unix:%(bridge)s; }
"""


@dataclass
class Place:
    """Where scenarios happen.

    Attributes:
        directory: of Nginx's files; its workers may look into it.
        upstreams: addresses by the names that scenarios have for them.
    """

    directory: Path
    address: tuple[str, int]
    failing: FailingServer
    params: str
    names: NameServer
    upstreams: dict[str, str] = field(default_factory=dict)

    def connect(self, *, receive_buffer_bytes: int = 0) -> socket.socket:
        """Connect to Nginx; the caller closes."""
        connection = socket.socket()
        if receive_buffer_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(self.address)
        return connection

    def ask(self, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
        """Send a request, and read all that comes back."""
        lines = [f"{method} {path} HTTP/1.1", "Host: example.com", "Connection: close", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def send(self, request: bytes) -> bytes:
        """Send bytes, and read all that comes back."""
        got = b""
        with self.connect() as connection, contextlib.suppress(ConnectionError):
            # An answer may be there before all is sent, and Nginx closes behind it.
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
            while piece := connection.recv(65_536):
                got += piece
        return got

    def wait_for_error(self, path: str) -> None:
        """Wait until the error log has a line about a path."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while f" {path} " not in self.errors():
            assert time.monotonic() < deadline, self.errors()
            time.sleep(0.02)

    def errors(self) -> str:
        """Read the error log."""
        path = self.directory / "error.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @contextlib.contextmanager
    def without_rights(self, directory: Path) -> Iterator[None]:
        """Take all rights to a directory."""
        self.ask("/")  # now it has been made
        directory.chmod(0)
        try:
            yield
        finally:
            directory.chmod(0o700)


@dataclass(frozen=True)
class Logs:
    """What an Nginx has written.

    Attributes:
        errors: lines of the error log.
        accesses: lines of the access log in the combined form.
        timed: the same in the form that we generate.
    """

    errors: list[str]
    accesses: list[str]
    timed: list[str]


def record(frontend: Frontend, bridge: str) -> Logs:
    """Have all scenarios happen behind one Nginx, and read what it has written.

    Args:
        frontend: the Nginx.
        bridge: path of the unix socket of a bridge.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="uwsgibridge-explaining-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        listener.setblocking(False)
        failing = FailingServer()
        stack.callback(failing.close)
        names = NameServer()
        stack.callback(names.close)
        place = Place(directory, listener.getsockname(), failing, UWSGI_PARAMS, names)
        _open_upstreams(place, stack)
        (directory / "nginx.conf").write_text(_configuration(place, bridge))
        with _nginx(frontend, place, listener):
            with ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(it.ask, place, f"/{it.name}") for it in SCENARIOS]
                for future in asked:
                    future.result(PATIENCE_SECONDS)
            for path in (
                "fails",
                "fails-midway",
                "is-short",
                "has-a-large-head",
                "impatient/is-slow",
            ):
                place.ask(f"/bridge/{path}")
            place.ask("/bridge/too-large", method="POST", body=bytes(10_000))
            place.ask("/bridge/crashes")
        return Logs(*(_lines(directory / f"{it}.log") for it in ("error", "access", "timed")))


def errors_of_few_connections(frontend: Frontend) -> list[str]:
    """Ask an Nginx that may have too few connections for a client and an upstream, and read its error log."""
    with contextlib.ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="uwsgibridge-explaining-"))
        )
        directory.chmod(0o755)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        failing, names = FailingServer(), NameServer()
        stack.callback(failing.close)
        stack.callback(names.close)
        place = Place(directory, listener.getsockname(), failing, "", names)
        # One is for the listening socket, one for the channel of the processes, and one for the client.
        (directory / "nginx.conf").write_text(f"""
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
{"user nobody nogroup;" if os.geteuid() == 0 else ""}
events {{ worker_connections 3; }}
http {{
access_log off;
{_temporary_paths(directory)}
server {{
    listen 127.0.0.1:{place.address[1]};
    location / {{ uwsgi_pass 127.0.0.1:{failing.port}; }}
}}
}}
""")
        with _nginx(frontend, place, listener):
            place.ask("/")
        return place.errors().splitlines()


def _temporary_paths(directory: Path) -> str:
    return "\n".join(
        f"{name}_temp_path {directory}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8", "replace").splitlines()


def _open_upstreams(place: Place, stack: contextlib.ExitStack) -> None:
    directory = place.directory

    def bound(path: Path) -> socket.socket:
        one = stack.enter_context(socket.socket(socket.AF_UNIX))
        one.bind(str(path))
        path.chmod(0o666)
        return one

    tcp = stack.enter_context(socket.socket())
    tcp.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port, and it refuses
    dead = f"127.0.0.1:{tcp.getsockname()[1]}"
    bound(directory / "stale.sock").close()
    forbidden = bound(directory / "forbidden.sock")
    forbidden.listen()
    (directory / "forbidden.sock").chmod(0)
    stack.enter_context(full_backlog(bound(directory / "full.sock")))
    full = stack.enter_context(socket.socket())
    full.bind(("127.0.0.1", 0))
    stack.enter_context(full_backlog(full))
    place.upstreams |= {
        "nobody": dead,
        "stale": f"unix:{directory}/stale.sock",
        "missing": f"unix:{directory}/missing.sock",
        "forbidden": f"unix:{directory}/forbidden.sock",
        "full-unix": f"unix:{directory}/full.sock",
        "full-tcp": f"127.0.0.1:{full.getsockname()[1]}",
        # Linux lets no TCP connection go to a broadcast address: ENETUNREACH.
        "nowhere": "255.255.255.255:3031",
        "group-of-one-dead": "one_dead",
        "group-of-dead": "all_dead",
        "suwsgi": f"suwsgi://127.0.0.1:{place.failing.port}",
        "$unknown_name": "$unknown_name",
        "$silent_name": "$silent_name",
        "$any_name": "$any_name",
        "dead": dead,
    }


def _configuration(place: Place, bridge: str) -> str:
    directory = place.directory
    dead = place.upstreams["dead"]
    locations = "".join(it.location(place) for it in SCENARIOS)
    return f"""
daemon off;
{"user nobody nogroup;" if os.geteuid() == 0 else ""}
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
log_format timed '$remote_addr [$time_iso8601] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent" '
    '$request_time $upstream_addr $upstream_status $upstream_response_time';
access_log {directory}/access.log;
access_log {directory}/timed.log timed;
{_temporary_paths(directory)}
limit_req_zone $binary_remote_addr zone=rate:64k rate=1r/m;
large_client_header_buffers 4 32k;
upstream one_dead {{ server {dead} max_fails=1; server unix:{directory}/stale.sock; }}
upstream all_dead {{ server {dead}; server unix:{directory}/stale.sock; }}
server {{
    listen 127.0.0.1:{place.address[1]};
    set $unknown_name app.invalid:3031;
    set $silent_name app.silent:3031;
    set $any_name app.example:3031;
    {locations}
    {BRIDGE_LOCATIONS % {"params": place.params, "bridge": bridge}}
    location = / {{ return 204; }}
    location = /guard {{
        internal; {place.params} uwsgi_pass_request_body off;
        uwsgi_param BEHAVIOUR refuses; uwsgi_pass 127.0.0.1:{place.failing.port};
    }}
    location /protected/ {{ internal; alias {directory}/files/; }}
}}
}}
"""


@contextlib.contextmanager
def _nginx(frontend: Frontend, place: Place, listener: socket.socket) -> Iterator[None]:
    path = str(place.directory / "nginx.conf")
    output = place.directory / "output.log"
    number = listener.fileno()
    with (
        output.open("wb") as written,
        subprocess.Popen(
            [*frontend.command, path],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            # Nginx takes the socket over, as at an upgrade of its binary: it can be connected to from now on.
            env={**os.environ, "NGINX": f"{number};"},
            pass_fds=(number,),
        ) as process,
    ):
        listener.close()  # now Nginx alone has it: where that ends, nobody waits for it
        try:
            try:
                yield
            except BaseException as error:
                error.add_note(output.read_text() + place.errors()[-5000:])
                raise
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
