"""The one table of options: names, types, defaults, units and help.

The command line, the environment (``UWSGIBRIDGE_<NAME>``), the configuration file and the reference
page are all made from it. A value is checked here, once, and trusted from then on.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import unquote

from uwsgibridge.config.address import parse_address
from uwsgibridge.errors import SettingsError
from uwsgibridge.protocol.packet import MAX_VARS_BYTES
from uwsgibridge.system.cpus import usable_cpus

Interface: TypeAlias = Literal["auto", "wsgi", "asgi"]
Loop: TypeAlias = Literal["auto", "asyncio", "uvloop", "trio"]
LifespanMode: TypeAlias = Literal["auto", "on", "off"]
AccessLogFormat: TypeAlias = Literal["auto", "combined", "json", "short"]
LogFormat: TypeAlias = Literal["auto", "text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
ReloadMode: TypeAlias = Literal["all", "chain"]

DEFAULT_BIND: Final = "127.0.0.1:3031"

# More is a slip of the keyboard, and would take the machine down.
MAX_WORKERS: Final = 1000

_MODE: Final = re.compile(r"0?[0-7]{3}")
_QUERY_OR_FRAGMENT: Final = re.compile(r"[?#]")


def _option(
    default: Any,
    help_text: str,
    *,
    section: str,
    metavar: str | None = None,
    short: str | None = None,
    shown_default: str | None = None,
) -> Any:
    metadata = {
        "help": help_text,
        "section": section,
        "metavar": metavar,
        "short": short,
        "shown_default": shown_default,
    }
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, tuple):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, checked.

    Raises:
        SettingsError: on construction, for a value out of its range.
    """

    bind: tuple[str, ...] = _option(
        (DEFAULT_BIND,),
        "Where Nginx connects: unix:/run/app.sock, 127.0.0.1:3031, [::1]:3031 or fd://3. Repeatable.",
        section="Listening",
        metavar="ADDRESS",
        short="-b",
    )
    socket_mode: str = _option(
        "0660",
        "Permissions of a unix socket, in octal; Nginx's user needs write permission.",
        section="Listening",
        metavar="MODE",
    )
    socket_owner: str = _option(
        "",
        "Owner of a unix socket; by default --user and --group. Without root, :GROUP with one that the "
        "user is a member of.",
        section="Listening",
        metavar="USER:GROUP",
    )
    backlog: int = _option(
        2048,
        "Connections that wait in the kernel; Linux caps it at net.core.somaxconn.",
        section="Listening",
    )
    interface: Interface = _option(
        "auto", "What the application speaks; auto looks at the callable.", section="Application"
    )
    factory: bool = _option(
        False,
        "APP is a function without arguments that returns the application; module:function() says "
        "the same.",
        section="Application",
    )
    mount: tuple[str, ...] = _option(
        (),
        "Serve a further application below a path; the longest prefix wins. Repeatable.",
        section="Application",
        metavar="PREFIX=APP",
    )
    app_dir: str = _option(
        ".", "Where the application is imported from.", section="Application", metavar="DIR"
    )
    lifespan: LifespanMode = _option(
        "auto",
        "ASGI lifespan events; auto goes on without them where the application raises before it receives the "
        "first.",
        section="Application",
    )
    offload: tuple[str, ...] = _option(
        (),
        "Answer with X-Accel-Redirect below URL where an application's X-Sendfile names a file in DIR. "
        "Repeatable.",
        section="Application",
        metavar="URL=DIR",
    )
    threads: int = _option(8, "Threads that run a WSGI application.", section="Running")
    wsgi_websockets: int = _option(
        0,
        "WebSockets that a WSGI application may have at a time in a worker, each with a thread of its own, "
        "through simple-websocket, flask-sock or Flask-SocketIO; 0 is none.",
        section="Running",
    )
    loop: Loop = _option(
        "auto",
        "Event loop for ASGI; auto is uvloop where it is installed, else asyncio.",
        section="Running",
    )
    graceful_timeout_seconds: float = _option(
        30.0, "How long running requests may take to end at a stop.", section="Running"
    )
    stream_drain_seconds: float = _option(
        10.0,
        "How long, at a stop, answers without a Content-Length may go on before their application is "
        "told to end them; server-sent events are told at once. At most half of "
        "--graceful-timeout-seconds.",
        section="Running",
    )
    lifespan_timeout_seconds: float = _option(
        60.0, "How long the application's startup, and its shutdown, may take.", section="Running"
    )
    workers: int = _option(
        usable_cpus,
        "Worker processes, which a supervisor replaces, reloads and recycles. 0 is none: this process "
        "serves by itself.",
        section="Processes",
        short="-w",
        shown_default="the usable CPUs",
    )
    workers_min: int = _option(
        0,
        "The fewest workers. With it, or --workers-max, workers are taken away while idle and added while "
        "requests wait; 0 keeps the number as it is.",
        section="Processes",
    )
    workers_max: int = _option(
        0,
        "The most workers, see --workers-min; 0 is --workers.",
        section="Processes",
    )
    scale_queue_seconds: float = _option(
        0.1, "How long requests may wait before workers are added.", section="Processes"
    )
    scale_up_seconds: float = _option(2.0, "How long that has to last.", section="Processes")
    scale_idle_seconds: float = _option(
        60.0,
        "How long one worker less has to be more than enough before it is taken away.",
        section="Processes",
    )
    preload: bool = _option(
        False,
        "Load the application once, before workers are forked, and share its memory.",
        section="Processes",
    )
    on_fork: str = _option(
        "",
        "A function without arguments that each worker calls before it serves, such as one that opens "
        "its own database connections.",
        section="Processes",
        metavar="MODULE:FUNCTION",
    )
    on_worker_exit: str = _option(
        "",
        "A function without arguments that each worker calls when it has drained.",
        section="Processes",
        metavar="MODULE:FUNCTION",
    )
    heartbeat_timeout_seconds: float = _option(
        60.0,
        "How long a worker may not answer its supervisor, which asks each second; then its stack is "
        "logged, and it is killed and replaced. 0 is no limit.",
        section="Processes",
    )
    control_socket: str = _option(
        "",
        "Where uwsgibridge ctl finds the supervisor; none is for no such socket. By default one in a "
        "directory of the user's own, which ctl finds by itself.",
        section="Processes",
        metavar="PATH",
    )
    reload: bool = _option(
        False,
        "Reload when Python files below --app-dir change; needs the package watchfiles.",
        section="Reloading",
    )
    reload_dir: tuple[str, ...] = _option(
        (),
        "Watch this directory instead of --app-dir. Repeatable.",
        section="Reloading",
        metavar="DIR",
    )
    reload_include: tuple[str, ...] = _option(
        (),
        "Files beside *.py whose change counts, such as *.html. Repeatable.",
        section="Reloading",
        metavar="GLOB",
    )
    reload_exclude: tuple[str, ...] = _option(
        (), "Files whose change does not count. Repeatable.", section="Reloading", metavar="GLOB"
    )
    touch_reload: tuple[str, ...] = _option(
        (),
        "Reload when this file is touched, replaced or made. Repeatable.",
        section="Reloading",
        metavar="FILE",
    )
    reload_mode: ReloadMode = _option(
        "all",
        "all brings up all new workers before the old ones drain; chain replaces one after the other, "
        "with less memory and for a longer time.",
        section="Reloading",
    )
    max_requests: int = _option(
        0,
        "Requests after which a worker is replaced: a new one comes first, then the old one drains, one "
        "worker at a time. 0 is never; so are the others.",
        section="Recycling",
    )
    max_requests_jitter: int = _option(
        0,
        "Up to so many more, by chance, so that workers are not replaced together.",
        section="Recycling",
    )
    worker_lifetime_seconds: float = _option(
        0.0, "Age at which a worker is replaced.", section="Recycling"
    )
    worker_lifetime_jitter_seconds: float = _option(
        0.0, "Up to so much more, by chance.", section="Recycling"
    )
    max_rss_bytes: int = _option(
        0,
        "Memory above which a worker is replaced: its resident set, what it shares with others included.",
        section="Recycling",
    )
    max_rss_hard_bytes: int = _option(
        0,
        "Memory above which a worker is killed at once, with the requests that it holds.",
        section="Recycling",
    )
    user: str = _option(
        "",
        "The user to become when the sockets are open; by name or number. Needs root.",
        section="System",
    )
    group: str = _option(
        "",
        "The group to become, and that of unix sockets; by default the user's. Without root, one that the "
        "user is a member of: sockets have it.",
        section="System",
    )
    umask: str = _option(
        "", "Permissions that new files do not get, in octal.", section="System", metavar="MODE"
    )
    pid_file: str = _option(
        "", "A file that holds the supervisor's process number.", section="System", metavar="FILE"
    )
    title: str = _option(
        "", "What ps shows, followed by the role of the process.", section="System"
    )
    worker_oom_score: int = _option(
        100,
        "Added to a worker's score for Linux's out-of-memory killer (oom_score_adj), so that it takes a "
        "worker and not the supervisor.",
        section="System",
    )
    request_timeout_seconds: float = _option(
        0.0,
        "How long an application may take for a request; then its stack is logged and the client gets "
        "504. An ASGI task is cancelled, a WSGI thread is interrupted; one that goes on all the same is "
        "given up: the worker is replaced, and with --workers 0 the process drains and exits. 0 is no "
        "limit.",
        section="Limits",
    )
    request_interrupt_seconds: float = _option(
        1.0,
        "How long a WSGI thread may take to come back from a request over its time, after an exception "
        "was raised in it (uwsgibridge.RequestInterrupted); then it is lost. 0 raises nothing, and such "
        "a thread is lost at once.",
        section="Limits",
    )
    accept_margin: int = _option(
        16,
        "WSGI requests accepted beyond the threads; the rest waits in the kernel.",
        section="Limits",
    )
    max_concurrency: int = _option(
        4096, "ASGI requests that run at once; the rest waits in the kernel.", section="Limits"
    )
    max_vars_bytes: int = _option(
        MAX_VARS_BYTES,
        "Bytes of vars (headers and more) in a request; over it, 431.",
        section="Limits",
    )
    max_vars: int = _option(
        1000, "Number of vars (headers and more) in a request; over it, 431.", section="Limits"
    )
    max_body_bytes: int = _option(
        0, "Bytes of body in a request; over it, 413. 0 leaves it to Nginx.", section="Limits"
    )
    packet_timeout_seconds: float = _option(
        10.0, "How long a request's vars may take to arrive.", section="Limits"
    )
    body_timeout_seconds: float = _option(
        60.0, "How long the next piece of a request's body may take to arrive.", section="Limits"
    )
    write_timeout_seconds: float = _option(
        60.0, "How long Nginx may take to accept the next 256 KiB of an answer.", section="Limits"
    )
    gone_client_send_seconds: float = _option(
        1.0,
        "How long an ASGI application may go on sending to a client that has left; then send raises an "
        "OSError, and after as long again the task is cancelled.",
        section="Limits",
    )
    linger_seconds: float = _option(
        5.0, "How long the body that an application left unread is discarded.", section="Limits"
    )
    websocket_max_message_bytes: int = _option(
        16_777_216,
        "Bytes of a WebSocket message from a client; over it, close 1009.",
        section="Limits",
    )
    websocket_ping_seconds: float = _option(
        20.0,
        "Between pings to a WebSocket's client, which keep Nginx's uwsgi_read_timeout (60 s) from "
        "ending the tunnel; 0 sends none.",
        section="Limits",
    )
    websocket_first_sign_seconds: float = _option(
        60.0,
        "How long a WebSocket's client may send nothing at all after its handshake, no answer to a ping "
        "either, where SERVER_SOFTWARE does not say that the frontend is Nginx; 0 is no limit.",
        section="Limits",
    )
    websocket_deflate: bool = _option(
        False,
        "Agree to permessage-deflate: less to send, more CPU, and up to 300 KiB during a message.",
        section="Limits",
    )
    frontend_buffer_bytes: int = _option(
        4096,
        "Nginx's uwsgi_buffer_size; an answer's head over it is logged, since Nginx answers 502.",
        section="Limits",
    )
    loop_block_warning_seconds: float = _option(
        1.0,
        "How long an ASGI application may block the event loop before its stack is logged; 0 is never.",
        section="Logging",
    )
    access_log: bool = _option(
        False, "A line for each request; Nginx writes such a log already.", section="Logging"
    )
    access_log_format: AccessLogFormat = _option(
        "auto",
        "auto is JSON where the log is JSON, and Apache's combined form elsewhere; both with the time in "
        "the queue and in the application. short is for a person at a terminal.",
        section="Logging",
    )
    log_file: str = _option(
        "",
        "Append the log, and all else on standard error, to this file; SIGUSR1 opens it anew.",
        section="Logging",
        metavar="FILE",
    )
    log_format: LogFormat = _option(
        "auto", "auto is text on a terminal and JSON elsewhere.", section="Logging"
    )
    log_buffer_bytes: int = _option(
        1024 * 1024,
        "So much of the log is kept, in each process, for a reader that does not keep up; "
        "lines over it are dropped and counted.",
        section="Logging",
    )
    log_level: LogLevel = _option("info", "The least level that is logged.", section="Logging")

    def __post_init__(self) -> None:
        if not self.bind:
            raise SettingsError("--bind names no address")
        for address in self.bind:
            try:
                parse_address(address)
            except ValueError as error:
                raise SettingsError(f"--bind: {error}") from None
        if not _MODE.fullmatch(self.socket_mode):
            raise SettingsError(f"--socket-mode {self.socket_mode!r} is not octal, such as 0660")
        if self.umask and not _MODE.fullmatch(self.umask):
            raise SettingsError(f"--umask {self.umask!r} is not octal, such as 027")
        for one in dataclasses.fields(self):
            self._check_field(one.name, str(one.type))
        if self.max_vars_bytes > MAX_VARS_BYTES:
            raise SettingsError(
                f"--max-vars-bytes {self.max_vars_bytes}: the format holds {MAX_VARS_BYTES}"
            )
        self._check_processes()
        for mount in self.mount:
            parse_mount(mount)
        for offload in self.offload:
            parse_offload(offload)

    def _check_processes(self) -> None:
        if self.workers_max and self.workers_max < max(self.workers_min, 1):
            raise SettingsError(
                f"--workers-max {self.workers_max} is below --workers-min {self.workers_min}"
            )
        if 0 < self.max_rss_hard_bytes <= self.max_rss_bytes:
            raise SettingsError(
                f"--max-rss-hard-bytes {self.max_rss_hard_bytes} must be above --max-rss-bytes "
                f"{self.max_rss_bytes}"
            )
        for name in ("on_fork", "on_worker_exit"):
            value = getattr(self, name)
            if value and not all(value.partition(":")):
                raise SettingsError(f"{option_name(name)} {value!r} is not module:function")
        if self.workers == 0:
            for name in _NEED_A_SUPERVISOR:
                if getattr(self, name):
                    raise SettingsError(
                        f"{option_name(name)} needs a supervisor: --workers 1 or more"
                    )

    def _check_field(self, name: str, kind: str) -> None:
        value = getattr(self, name)
        choices = CHOICES.get(kind)
        if choices is not None and value not in choices:
            raise SettingsError(f"{option_name(name)} {value!r} is none of {', '.join(choices)}")
        if kind in {"int", "float"}:
            least = 0 if name in _MAY_BE_ZERO else _LEAST[kind]
            most = _MOST_OF.get(name, _MOST[kind])
            # Neither holds for what is not a number (float("nan")).
            if not value >= least:
                raise SettingsError(f"{option_name(name)} {value} must be at least {least}")
            if not value <= most:
                raise SettingsError(f"{option_name(name)} {value} must be at most {most}")


# An annotation as the table has it, and its values.
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "Interface": get_args(Interface),
    "Loop": get_args(Loop),
    "LifespanMode": get_args(LifespanMode),
    "AccessLogFormat": get_args(AccessLogFormat),
    "LogFormat": get_args(LogFormat),
    "LogLevel": get_args(LogLevel),
    "ReloadMode": get_args(ReloadMode),
}

_NEED_A_SUPERVISOR: Final = (
    "workers_min",
    "workers_max",
    "preload",
    "reload",
    "touch_reload",
    "max_requests",
    "worker_lifetime_seconds",
    "max_rss_bytes",
    "max_rss_hard_bytes",
)

_MAY_BE_ZERO: Final = {
    "workers",
    "workers_min",
    "workers_max",
    "heartbeat_timeout_seconds",
    "max_requests",
    "max_requests_jitter",
    "worker_lifetime_seconds",
    "worker_lifetime_jitter_seconds",
    "max_rss_bytes",
    "max_rss_hard_bytes",
    "worker_oom_score",
    "request_timeout_seconds",
    "request_interrupt_seconds",
    "wsgi_websockets",
    "websocket_ping_seconds",
    "websocket_first_sign_seconds",
    "loop_block_warning_seconds",
    "max_body_bytes",
    "accept_margin",
    "graceful_timeout_seconds",
    "stream_drain_seconds",
    "linger_seconds",
}
_LEAST: Final[dict[str, float]] = {"int": 1, "float": 0.001}

# What a number with more digits means, nobody knows; timers of the system end before 300 years.
_MOST: Final[dict[str, int]] = {"int": 1_000_000_000_000, "float": 1_000_000_000}
_MOST_OF: Final[dict[str, int]] = {
    "workers": MAX_WORKERS,
    "workers_min": MAX_WORKERS,
    "workers_max": MAX_WORKERS,
    "threads": 10_000,
    # The kernel caps it without a word; listen(2) takes no more than 31 bits.
    "backlog": 1_000_000,
    "accept_margin": 1_000_000,
    "max_concurrency": 1_000_000,
    # Each takes four bytes or more of at most MAX_VARS_BYTES.
    "max_vars": MAX_VARS_BYTES,
    # proc_pid_oom_score_adj(5).
    "worker_oom_score": 1000,
}


def option_name(field_name: str) -> str:
    """Give the command line's spelling: ``--max-vars`` for ``max_vars``."""
    return "--" + field_name.replace("_", "-")


def parse_mount(text: str) -> tuple[str, str]:
    """Split ``/prefix=module:attribute``.

    Returns:
        The prefix, as `parse_prefix` gives it, and the application.

    Raises:
        SettingsError: it is not of that form.
    """
    prefix, equals, app = text.partition("=")
    if not equals or not app or not prefix.startswith("/"):
        raise SettingsError(f"--mount {text!r} is not of the form /prefix=module:attribute")
    return parse_prefix(prefix), app


def parse_prefix(text: str) -> str:
    """Take the slash at the end off a prefix, so that ``/`` is the empty text.

    Raises:
        SettingsError: it does not begin with a slash, or is never the beginning of a path as Nginx
            passes it on: decoded, without a query, and with no ``//``, ``.`` and ``..`` in it.
    """
    if not text.startswith("/"):
        raise SettingsError(f"the prefix {text!r} does not begin with a slash (--mount)")
    prefix = text.rstrip("/")
    decoded = unquote(_QUERY_OR_FRAGMENT.split(prefix)[0])
    meant = "/" + posixpath.normpath(decoded).lstrip("/") if prefix else ""
    if prefix != meant:
        raise SettingsError(
            f"no path that Nginx passes on begins with {text!r}: write the prefix as {meant!r} (--mount)"
        )
    return prefix


def parse_offload(text: str) -> tuple[str, str]:
    """Split ``/protected=/srv/files``.

    Returns:
        The URL prefix and the directory.

    Raises:
        SettingsError: it is not of that form, or there is no such directory.
    """
    url, equals, directory = text.partition("=")
    if not equals or not url.startswith("/") or not url.strip("/"):
        raise SettingsError(f"--offload {text!r} is not of the form /url=/directory")
    if not Path(directory).is_dir():
        raise SettingsError(f"--offload {text!r}: there is no directory {directory!r}")
    return url, directory
