"""Runs the project's Compose deployment, with Nginx and bridge as containers, for an application to test."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import itertools
import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import docker

from uwsgibridge.testing.container_log import ServiceLog
from uwsgibridge.testing.engine import docker_command
from uwsgibridge.testing.errors import StackError
from uwsgibridge.testing.log_stream import LogEvent, LogStream

if TYPE_CHECKING:
    from types import TracebackType

    from docker.models.containers import Container

_BUILD_TIMEOUT_SECONDS: Final = 900.0
_COMMAND_TIMEOUT_SECONDS: Final = 180.0

# The last file that the deployment's site includes into its server. A test's directives are appended to it.
_LAST_PIECE: Final = "uwsgibridge/application.conf"

_numbers = itertools.count(1)
_built: set[str] = set()


class ComposeStack:
    """Run an application in the project's own containers for as long as a `with` block lasts.

    Owns a Compose project of its own, with a free port of 127.0.0.1, its volumes and networks. Each process builds
    the images once, and removes them at its end. Needs an engine on this machine; see `engine.why_no_engine`.

    Args:
        app: the application as ``module:attribute``.
        project_dir: a checkout of uwsgibridge, with its compose.yaml. An installed package has none.
        app_dir: mounted in the bridge's container as ``/app``; everybody must be able to read it.
        socket: how Nginx reaches the bridge.
        interface: of the application; ``auto`` tells it by the callable.
        loop: event loop of an ASGI application.
        serve_args: further arguments of ``uwsgibridge serve``.
        environment: variables for the bridge and the application.
        nginx_directives: lines for the ``server`` block. In a location of their own,
            ``uwsgi_pass $uwsgibridge_upstream;`` leads to the bridge.
        graceful_timeout_seconds: how long running requests may take at the end.
        health_interval_seconds: how often the containers' health is checked; None takes the interval of the
            images, with which a start takes longer.
        requirements: packages for the bridge's image, each as a line of a requirements.txt. They replace
            those that REQUIREMENTS names.
        nginx_image: base image of Nginx; it replaces the one that NGINX_IMAGE names.
        overrides: contents of a further Compose file, which wins over the others: more services, volumes,
            capabilities. Paths are relative to `project_dir`; variables are not replaced.
    """

    def __init__(
        self,
        app: str,
        *,
        project_dir: str | Path,
        app_dir: str | Path | None = None,
        socket: Literal["tcp", "unix"] = "tcp",
        interface: Literal["auto", "wsgi", "asgi"] = "auto",
        loop: Literal["auto", "asyncio", "uvloop", "trio"] = "auto",
        serve_args: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        nginx_directives: str = "",
        graceful_timeout_seconds: float = 5.0,
        health_interval_seconds: float | None = 1.0,
        requirements: Sequence[str] = (),
        nginx_image: str | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> None:
        self._app_dir = (Path.cwd() if app_dir is None else Path(app_dir)).resolve()
        self._project_dir = Path(project_dir).resolve()
        self._socket = socket
        self._command = [
            *("serve", app, "--interface", interface, "--loop", loop),
            *("--graceful-timeout-seconds", str(graceful_timeout_seconds)),
            *(() if "--workers" in serve_args else ("--workers", "1")),
            *serve_args,
        ]
        self._bridge_environment = dict(environment or {})
        self._nginx_directives = nginx_directives
        self._health_interval_seconds = health_interval_seconds
        self._overrides = dict(overrides or {})
        self._environment = {
            **os.environ,
            "APP_DIR": str(self._app_dir),
            "UWSGIBRIDGE_PORT": "127.0.0.1:0",
            **({"REQUIREMENTS": "\n".join(requirements)} if requirements else {}),
            **({"NGINX_IMAGE": nginx_image} if nginx_image else {}),
        }
        self._images = {
            "bridge": self._image("bridge", "REQUIREMENTS"),
            "nginx": self._image(f"nginx-{socket}", "NGINX_IMAGE"),
        }
        self.project = f"uwsgibridge-test-{os.getpid()}-{next(_numbers)}-{secrets.token_hex(2)}"
        self._running: contextlib.ExitStack | None = None
        self._log: LogStream | None = None
        self._client: docker.DockerClient | None = None
        self._files: tuple[Path, ...] = ()
        self._port = 0
        self._status: int | None = None

    @property
    def url(self) -> str:
        """Where Nginx answers, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The id of the bridge's first process, as this machine counts."""
        return int(self.bridge.attrs["State"]["Pid"])

    @property
    def bridge(self) -> Container:
        """The bridge's container, an object of the `docker` package, with its present state."""
        return self._container("bridge")

    @property
    def nginx(self) -> Container:
        """Nginx's container, an object of the `docker` package, with its present state."""
        return self._container("nginx")

    @property
    def log(self) -> LogStream:
        """What the bridge has written; it stays readable after the end."""
        assert self._log is not None, "it was not started"
        return self._log

    @property
    def bridge_log(self) -> str:
        """All that the bridge and the application have written."""
        return self.log.text()

    @property
    def nginx_log(self) -> str:
        """Nginx's access log and error log."""
        return self.nginx.logs().decode("utf-8", "replace")

    def start(self) -> None:
        """Build the images where they are out of date, start the containers, and wait until both are healthy.

        Raises:
            StackError: a container ended or did not become healthy, or Compose failed.
        """
        assert self._running is None, "it runs already"
        if not all(
            (self._project_dir / it).exists() for it in ("compose.yaml", f"nginx/{_LAST_PIECE}")
        ):
            raise StackError(
                f"{self._project_dir} is no checkout of uwsgibridge, with its compose.yaml and its nginx/: "
                "name the directory of one with project_dir"
            )
        with contextlib.ExitStack() as undo:
            directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="uwsgibridge-")))
            self._files = self._write_files(directory)
            self._build()
            self._client = docker.from_env()
            undo.callback(self._client.close)
            lines = ServiceLog(self.project, "bridge")
            self._log = LogStream(lines, source="the bridge's container")
            undo.callback(self._close_log, lines)
            undo.callback(self.compose, "down", "--volumes", "--timeout", "20")
            try:
                self.compose("up", "--detach", "--no-build", "--wait")
            except StackError as error:
                log = self.compose("logs", "--no-color", "--timestamps")
                raise StackError(str(error), log=log, exit_status=self._exit_status()) from None
            self._find_port()
            self._running = undo.pop_all()

    def stop(self) -> int:
        """Stop both containers as ``docker compose stop`` does, and remove what was made for them.

        Does nothing where they are stopped already.

        Returns:
            The bridge's exit status; 137 where it had to be killed.

        Raises:
            StackError: there is no exit status, because somebody else has removed the container.
        """
        if self._running is not None:
            running, self._running = self._running, None
            with running:
                self.compose("stop")
                self._status = self._exit_status()
        if self._status is None:
            raise StackError("the bridge has no container that has ended", log=self.log.text())
        return self._status

    def compose(self, *arguments: str, timeout_seconds: float = _COMMAND_TIMEOUT_SECONDS) -> str:
        """Run ``docker compose`` on this project.

        Returns:
            What it wrote to standard output.

        Raises:
            StackError: the command failed; the message has its standard error.
        """
        files = itertools.chain.from_iterable(("--file", str(file)) for file in self._files)
        try:
            done = subprocess.run(  # noqa: S603 - arguments come from the test itself
                (
                    *(docker_command(), "compose", "--project-name", self.project),
                    *("--project-directory", str(self._project_dir), *files, *arguments),
                ),
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=self._environment,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired:
            raise StackError(
                f"docker compose {arguments[0]} did not end within {timeout_seconds:g} s"
            ) from None
        if done.returncode:
            raise StackError(f"docker compose {arguments[0]} failed", log=done.stderr)
        return done.stdout

    def wait_until_up(self) -> None:
        """Start containers that do not run, and return when both are healthy again."""
        self.compose("up", "--detach", "--no-build", "--wait")
        self._find_port()

    def log_events(self, *, since: int = 0) -> list[LogEvent]:
        """List the bridge's log events without the first `since` ones."""
        return self.log.events(since=since)

    def wait_for_event(
        self,
        predicate: Callable[[LogEvent], bool],
        *,
        since: int = 0,
        timeout_seconds: float = 10.0,
    ) -> LogEvent:
        """Wait for a log event of the bridge; see `LogStream.wait_for_event`."""
        return self.log.wait_for_event(predicate, since=since, timeout_seconds=timeout_seconds)

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

    def _write_files(self, directory: Path) -> tuple[Path, ...]:
        bridge: dict[str, Any] = {
            "image": self._images["bridge"],
            "command": self._command,
            "environment": self._bridge_environment,
        }
        nginx: dict[str, Any] = {"image": self._images["nginx"]}
        if self._health_interval_seconds is not None:
            for service in (bridge, nginx):
                service["healthcheck"] = {"interval": f"{self._health_interval_seconds:g}s"}
        if self._nginx_directives:
            piece = directory / "application.conf"
            as_shipped = (self._project_dir / "nginx" / _LAST_PIECE).read_text()
            piece.write_text(f"{as_shipped}\n{self._nginx_directives}\n")
            # Docker mounts the file itself, so that other users need no access to the directory.
            piece.chmod(0o644)
            nginx["volumes"] = [f"{piece}:/etc/nginx/{_LAST_PIECE}:ro"]
        own = {"services": {"bridge": bridge, "nginx": nginx}}
        written = []
        for name, content in (("test", own), ("overrides", self._overrides)):
            if content:
                written.append(directory / f"compose.{name}.json")
                written[-1].write_text(json.dumps(content).replace("$", "$$"))
        return (
            self._project_dir / "compose.yaml",
            *((self._project_dir / "nginx/compose.unix.yaml",) if self._socket == "unix" else ()),
            *written,
        )

    def _image(self, name: str, variable: str) -> str:
        # An image for each value, and for this process alone: another run must not replace it meanwhile.
        made_of = f"{self._project_dir}\0{self._environment.get(variable, '')}"
        digest = hashlib.sha256(made_of.encode()).hexdigest()[:8]
        return f"uwsgibridge-test-{name}:{digest}-{os.getpid()}"

    def _build(self) -> None:
        missing = [service for service, image in self._images.items() if image not in _built]
        if missing:
            self.compose("build", *missing, timeout_seconds=_BUILD_TIMEOUT_SECONDS)
            if not _built:
                atexit.register(_remove_images)
            _built.update(self._images.values())

    def _container(self, service: str) -> Container:
        assert self._client is not None, "it was not started"
        labels = (
            f"com.docker.compose.project={self.project}",
            f"com.docker.compose.service={service}",
            # Images that Compose builds have the other two labels, and so has a container that anybody runs from one.
            "com.docker.compose.oneoff=False",
        )
        found = self._client.containers.list(all=True, filters={"label": list(labels)})
        if not found:
            raise StackError(f"the project {self.project} has no container {service}")
        return found[0]

    def _find_port(self) -> None:
        published = self.nginx.ports["8080/tcp"]
        assert published, "compose.yaml publishes it"
        self._port = int(published[0]["HostPort"])

    def _exit_status(self) -> int | None:
        try:
            state = self.bridge.attrs["State"]
        except StackError:
            return None
        return None if state["Running"] else int(state["ExitCode"])

    def _close_log(self, lines: ServiceLog) -> None:
        lines.close()
        self.log.wait_ended(_COMMAND_TIMEOUT_SECONDS)


def _remove_images() -> None:
    # Layers of the images stay in the engine's build cache, so that the next run builds them in a second.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 - names made here
            (docker_command(), "image", "rm", "--force", *_built),
            check=False,
            capture_output=True,
            timeout=_COMMAND_TIMEOUT_SECONDS,
        )
