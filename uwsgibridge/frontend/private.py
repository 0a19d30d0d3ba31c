"""Runs a private Nginx in front of a bridge: no root, one temporary directory, nothing left behind.

This process makes the listening sockets, and Nginx inherits them, as it does at an upgrade of its binary (the
variable NGINX, ngx_add_inherited_sockets() in src/core/nginx.c). So no other process can take a free port
meanwhile, and a used port is noticed before Nginx starts.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

import trio

from uwsgibridge.frontend import guard
from uwsgibridge.frontend.binary import Nginx, choose_nginx
from uwsgibridge.frontend.config import PrivateFiles, render_private

if TYPE_CHECKING:
    from types import TracebackType

    from uwsgibridge.frontend.options import Site

# nginx has the same number. Linux caps it at net.core.somaxconn.
_BACKLOG: Final = 511

# How long the check of a configuration may take: some milliseconds, and longer where it needs the DNS.
_CHECK_TIMEOUT_SECONDS: Final = 30.0

# How long the guard may take beyond two grace periods: to start Python, and to remove the directory.
_GUARD_MARGIN_SECONDS: Final = 10.0


class NginxStartError(Exception):
    """The private Nginx does not start; the message says why in one sentence."""


class PrivateNginx:
    """Run one Nginx for as long as a `with` or an `async with` (trio) block lasts.

    It owns a temporary directory and two processes: Nginx, and a guard which ends Nginx and removes the
    directory at the end of the block or of this process, however that ends. Nginx has the rights of the
    user who starts it.

    Args:
        site: the site to serve; `host` and `port` replace its `listen`.
        host: where Nginx listens, a name or an address of this machine.
        port: 0 takes a free one.
        binary: the Nginx to run, as for `choose_nginx`.
        worker_processes: how many workers Nginx has.
        directives: further lines for the ``server`` block of the site.
        errors_to: where Nginx's errors go beside `error_log`, as for `subprocess.Popen`;
            None is nowhere.
        start_timeout_seconds: how long Nginx may take until it serves.
        grace_seconds: how long running requests may take at the end, and how long closing may take after
            that; 0 closes at once.
    """

    def __init__(
        self,
        site: Site,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        binary: str | Path | None = None,
        worker_processes: int = 1,
        directives: str = "",
        errors_to: IO[str] | IO[bytes] | int | None = None,
        start_timeout_seconds: float = 10.0,
        grace_seconds: float = 2.0,
    ) -> None:
        self._site = site
        self._host = host
        self._port = port
        self._binary = binary
        self._worker_processes = worker_processes
        self._directives = directives
        self._errors_to = errors_to
        self._start_timeout_seconds = start_timeout_seconds
        self._grace_seconds = grace_seconds
        self._running: contextlib.ExitStack | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._address: tuple[str, int] = (host, port)
        self._error_log = ""
        self._program: Nginx | None = None
        self.directory: Path | None = None

    @property
    def port(self) -> int:
        """The port that Nginx listens on."""
        return self._address[1]

    @property
    def url(self) -> str:
        """The URL of Nginx on this machine, without a slash at the end."""
        host, port = self._address
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a name, not a bind
        return f"http://{_bracketed(here)}:{port}"

    @property
    def program(self) -> Nginx:
        """The Nginx that was chosen at the start."""
        assert self._program is not None, "it was not started"
        return self._program

    def error_log(self) -> str:
        """Read Nginx's error log, of level info; it stays readable after the end."""
        if self.directory is not None:
            with contextlib.suppress(FileNotFoundError):
                path = self.directory / "error.log"
                self._error_log = path.read_text(encoding="utf-8", errors="replace")
        return self._error_log

    def start(self) -> None:
        """Start Nginx, and return as soon as it serves requests.

        Raises:
            NginxNotFoundError: there is no Nginx that can be used.
            NginxStartError: Nginx can't listen at the address, refuses the configuration, ends at its
                start, or does not answer in time. Nothing is left behind.
        """
        assert self._running is None, "it runs already"
        self._program = choose_nginx(self._binary)
        binary = self._program.path
        with contextlib.ExitStack() as undo:
            public = undo.enter_context(_listen_tcp(self._host, self._port))
            self._address = public.getsockname()[:2]
            self.directory = Path(tempfile.mkdtemp(prefix="uwsgibridge-nginx-"))
            undo.callback(self._remove_directory, self.directory)
            ready_path = self.directory / "ready.sock"
            ready = undo.enter_context(_listen_unix(ready_path))
            configuration = self._write_configuration(self.directory, ready_path)
            _check(binary, configuration)
            self._guard = self._spawn(binary, configuration, (public.fileno(), ready.fileno()))
            undo.callback(self._stop_guard, self._guard)
            # Now only Nginx has the sockets, so that connections are refused as soon as it has ended.
            public.close()
            ready.close()
            self._wait_until_ready(ready_path)
            self._running = undo.pop_all()

    def stop(self) -> None:
        """Stop Nginx, and remove its files; return when both are done."""
        if self._running is not None:
            running, self._running = self._running, None
            running.close()

    async def wait_ended(self) -> None:
        """Wait until Nginx has ended, by itself or by `stop`."""
        assert self._guard is not None, "it was not started"
        assert self._guard.stdout is not None
        await trio.lowlevel.wait_readable(self._guard.stdout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await trio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.stop)

    def _write_configuration(self, directory: Path, ready_socket: Path) -> Path:
        host, port = self._address
        site = replace(
            self._site,
            listen=(f"{_bracketed(host)}:{port}",),
            nginx_version=self.program.version,
        )
        private = PrivateFiles(
            directory=directory,
            ready_socket=ready_socket,
            account=_own_account(),
            worker_processes=self._worker_processes,
        )
        path = directory / "nginx.conf"
        path.write_text(render_private(site, private, self._directives), encoding="utf-8")
        return path

    def _spawn(
        self, binary: Path, configuration: Path, listeners: tuple[int, ...]
    ) -> subprocess.Popen[bytes]:
        directory = str(configuration.parent)
        # With -I and -S, neither the environment nor installed packages change the guard.
        program = (sys.executable, "-I", "-S", guard.__file__, directory, str(self._grace_seconds))
        nginx = (
            *(str(binary), "-p", directory, "-c", str(configuration)),
            *("-e", str(configuration.parent / "error.log")),
        )
        return subprocess.Popen(  # noqa: S603 - our own guard and the Nginx that was found
            (*program, *nginx),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if self._errors_to is None else self._errors_to,
            env={**os.environ, "NGINX": "".join(f"{number};" for number in listeners)},
            pass_fds=listeners,
            # Ctrl-C reaches this process alone, which stops the bridge before Nginx.
            start_new_session=True,
        )

    def _wait_until_ready(self, ready_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(self._start_timeout_seconds)
            try:
                probe.connect(str(ready_path))
                probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = probe.recv(64)
            except TimeoutError:
                raise NginxStartError(
                    f"Nginx does not serve requests within {self._start_timeout_seconds:g} s of its start"
                ) from None
            except OSError:
                # The sockets are closed, so Nginx has ended.
                answer = b""
        if not answer:
            raise NginxStartError(
                f"Nginx ended at its start: {_complaint(self.error_log()) or 'it does not say why'}"
            )

    def _stop_guard(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            self.error_log()
            process.stdin.close()
            guard_seconds = (
                2 * (self._grace_seconds or guard.CLOSING_SECONDS) + _GUARD_MARGIN_SECONDS
            )
            _read_to_end(process.stdout, guard_seconds)
            process.kill()
            process.wait()

    def _remove_directory(self, directory: Path) -> None:
        self.error_log()
        self.directory = None
        # The guard has removed the directory, unless it was killed or never started. Then Nginx may still run.
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.killpg(int((directory / "nginx.pid").read_text()), signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


def _listen_tcp(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise NginxStartError(f"{host!r} is not the name or address of a host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        # Nginx does not make inherited sockets non-blocking itself.
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise NginxStartError(_bind_complaint(error, host, port)) from None
    return listener


def _bind_complaint(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} of {host} is in use; choose another with --port (0 takes a free one)"
            )
        case errno.EACCES:
            return f"port {port} of {host} is for root alone; choose one from 1024 on with --port"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine"
        case _:
            return f"Nginx cannot listen on port {port} of {host}: {error.strerror}"


def _listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise NginxStartError(
            f"no unix socket can be made in {path.parent} ({error}); name another directory in TMPDIR"
        ) from None
    return listener


def _check(binary: Path, configuration: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NGINX"}
    command = (
        str(binary),
        "-t",
        "-e",
        "stderr",
        "-p",
        str(configuration.parent),
        "-c",
        str(configuration),
    )
    try:
        done = subprocess.run(  # noqa: S603 - the Nginx that was found
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=_CHECK_TIMEOUT_SECONDS,
        )
    except OSError as error:
        raise NginxStartError(f"{binary} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise NginxStartError(
            f"{binary} did not check its configuration within {_CHECK_TIMEOUT_SECONDS:g} s"
        ) from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace")
        raise NginxStartError(
            f"Nginx refuses its configuration: {_complaint(said) or said.strip() or 'it does not say why'}"
        )


def _complaint(log: str) -> str | None:
    for line in log.splitlines():
        for level in ("[emerg] ", "[alert] ", "[crit] "):
            _, found, message = line.partition(level)
            if found:
                # In a file, a process id stands between the level and the message.
                return message.partition(": ")[2] if message[:1].isdecimal() else message
    return None


def _read_to_end(stream: IO[bytes], timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    readable = select.poll()
    readable.register(stream, select.POLLIN)
    while readable.poll(max(0.0, deadline - time.monotonic()) * 1000):
        if not os.read(stream.fileno(), 64):
            return


def _own_account() -> tuple[str, str] | None:
    # Without an account, root's Nginx would run its workers as nobody, who can use neither the directory nor the
    # bridge's socket.
    if os.geteuid() != 0:
        return None
    account = pwd.getpwuid(0)
    return account.pw_name, grp.getgrgid(account.pw_gid).gr_name


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
