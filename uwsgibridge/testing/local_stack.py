"""Runs a private Nginx in front of a bridge, both as processes of this machine, without Docker or root."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from uwsgibridge.frontend.options import Site
from uwsgibridge.frontend.private import PrivateNginx
from uwsgibridge.testing.bridge_process import BridgeProcess
from uwsgibridge.testing.log_stream import LogEvent, LogStream

if TYPE_CHECKING:
    from types import TracebackType


class LocalStack:
    """Run an application behind a real Nginx for as long as a `with` block lasts.

    Owns both processes and a temporary directory. The bridge is the one of this Python environment. Nginx has the
    configuration that `uwsgibridge nginx` prints.

    Args:
        app: the application as ``module:attribute``.
        app_dir: the directory to import the application from; by default the working directory.
        socket: how Nginx reaches the bridge.
        interface: of the application; ``auto`` tells it by the callable.
        loop: event loop of an ASGI application.
        serve_args: further arguments of ``uwsgibridge serve``.
        environment: variables for the bridge and the application, beside those of this process.
        site: options of Nginx; the stack sets the upstream and the address itself.
        nginx_directives: lines for the ``server`` block. In a location of their own,
            ``uwsgi_pass $uwsgibridge_upstream;`` leads to the bridge.
        start_timeout_seconds: how long the bridge may take until it listens.
        graceful_timeout_seconds: how long running requests may take at the end.
    """

    def __init__(
        self,
        app: str,
        *,
        app_dir: str | Path | None = None,
        socket: Literal["tcp", "unix"] = "tcp",
        interface: Literal["auto", "wsgi", "asgi"] = "auto",
        loop: Literal["auto", "asyncio", "uvloop", "trio"] = "auto",
        serve_args: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        site: Site | None = None,
        nginx_directives: str = "",
        start_timeout_seconds: float = 20.0,
        graceful_timeout_seconds: float = 5.0,
    ) -> None:
        self._app = app
        self._app_dir = Path.cwd() if app_dir is None else Path(app_dir)
        self._socket = socket
        self._choices = ("--interface", interface, "--loop", loop)
        self._serve_args = tuple(serve_args)
        self._environment = environment
        self._site = site or Site()
        self._nginx_directives = nginx_directives
        self._start_timeout_seconds = start_timeout_seconds
        self._graceful_timeout_seconds = graceful_timeout_seconds
        self._running: contextlib.ExitStack | None = None
        self._bridge: BridgeProcess | None = None
        self._nginx: PrivateNginx | None = None

    @property
    def url(self) -> str:
        """Where Nginx answers, without a slash at the end."""
        assert self._nginx is not None, "it was not started"
        return self._nginx.url

    @property
    def address(self) -> str:
        """Where the bridge speaks uwsgi, in the form that ``--bind`` takes."""
        return self.bridge.address

    @property
    def pid(self) -> int:
        """The id of the bridge's process."""
        return self.bridge.pid

    @property
    def bridge(self) -> BridgeProcess:
        """The bridge alone, to send it signals or to wait for its end."""
        assert self._bridge is not None, "it was not started"
        return self._bridge

    @property
    def log(self) -> LogStream:
        """What the bridge has written; it stays readable after the end."""
        return self.bridge.log

    @property
    def bridge_log(self) -> str:
        """All that the bridge and the application have written to standard error."""
        return self.log.text()

    @property
    def nginx_log(self) -> str:
        """Nginx's error log, of level info."""
        assert self._nginx is not None, "it was not started"
        return self._nginx.error_log()

    def start(self) -> None:
        """Start the bridge and Nginx, and return as soon as requests are served.

        Raises:
            StackError: the bridge ended at its start, with `StackError.exit_status`.
            NginxNotFoundError: there is no Nginx to run.
            NginxStartError: Nginx refuses its configuration.
        """
        assert self._running is None, "it runs already"
        with contextlib.ExitStack() as undo:
            self._bridge = BridgeProcess(
                *(self._app, "--app-dir", str(self._app_dir), *self._choices),
                *("--bind", self._choose_address(undo)),
                *("--frontend-buffer-bytes", str(self._site.uwsgi_buffer_bytes)),
                *self._serve_args,
                environment=self._environment,
                start_timeout_seconds=self._start_timeout_seconds,
                graceful_timeout_seconds=self._graceful_timeout_seconds,
            )
            undo.enter_context(self._bridge)
            site = replace(self._site, upstreams=(self._bridge.address,))
            self._nginx = PrivateNginx(
                site,
                directives=f"set $uwsgibridge_upstream {site.name};\n{self._nginx_directives}",
            )
            undo.enter_context(self._nginx)
            self._running = undo.pop_all()

    def stop(self) -> int:
        """Stop the bridge, which lets running requests end, and then Nginx.

        Returns:
            The bridge's exit status; the negative number of the signal that ended it.
        """
        status = self.bridge.stop()
        if self._running is not None:
            running, self._running = self._running, None
            running.close()
        return status

    def log_events(self, *, since: int = 0) -> list[LogEvent]:
        """List the bridge's log events without the first `since` ones."""
        return self.bridge.log_events(since=since)

    def wait_for_event(
        self,
        predicate: Callable[[LogEvent], bool],
        *,
        since: int = 0,
        timeout_seconds: float = 10.0,
    ) -> LogEvent:
        """Wait for a log event of the bridge; see `LogStream.wait_for_event`."""
        return self.bridge.wait_for_event(predicate, since=since, timeout_seconds=timeout_seconds)

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

    def _choose_address(self, undo: contextlib.ExitStack) -> str:
        if self._socket == "tcp":
            return "127.0.0.1:0"
        directory = tempfile.mkdtemp(prefix="uwsgibridge-")
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        return f"unix:{directory}/app.sock"
