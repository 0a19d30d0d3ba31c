"""The one table of options: names, types, defaults, units, rules and help.

The command line, the environment (``UWSGIBRIDGE_<NAME>``), the configuration file and the reference page are all made
from this table. Values are checked here, once. Later code trusts them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from uwsgibridge.config.access_format import parse_format
from uwsgibridge.config.address import DescriptorAddress, TcpAddress, parse_address
from uwsgibridge.config.buckets import DEFAULT_BUCKETS, parse_buckets
from uwsgibridge.config.env_file import check_variable
from uwsgibridge.config.mounts import (
    check_health_path,
    parse_mount,
    parse_mount_limit,
    parse_offload,
    parse_static,
)
from uwsgibridge.config.options import (
    Option,
    choice,
    flag,
    option_name,
    seconds,
    size,
    text,
    texts,
    whole,
)
from uwsgibridge.errors import SettingsError
from uwsgibridge.protocol.packet import MAX_VARS_BYTES
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.system.cpus import usable_cpus

Interface: TypeAlias = Literal["auto", "wsgi", "asgi"]
Loop: TypeAlias = Literal["auto", "asyncio", "uvloop", "trio"]
LifespanMode: TypeAlias = Literal["auto", "on", "off"]
LogFormat: TypeAlias = Literal["auto", "text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
AppLogging: TypeAlias = Literal["bridge", "own"]
AppLogLevel: TypeAlias = Literal["auto", "debug", "info", "warning", "error"]
ReloadMode: TypeAlias = Literal["all", "chain"]
# Of syslog: RFC 5424, section 6.2.1, without those of the kernel and of the daemon itself.
Facility: TypeAlias = Literal[
    "user", "mail", "daemon", "auth", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip
MetricsNames: TypeAlias = Literal["uwsgibridge", "uwsgi_exporter"]
StatsdFormat: TypeAlias = Literal["auto", "plain", "dogstatsd"]

DEFAULT_BIND: Final = "127.0.0.1:3031"

# More workers are a typing error, and would make the machine unusable.
MAX_WORKERS: Final = 1000
_MAX_THREADS: Final = 10_000
# listen(2) takes 31 bits, and the kernel lowers the number silently.
_MAX_CONNECTIONS: Final = 1_000_000
# Each is a file that every scrape reads.
_MAX_KEPT_GAUGES: Final = 1000
# proc_pid_oom_score_adj(5).
_MAX_OOM_SCORE: Final = 1000

_MODE: Final = re.compile(r"0?[0-7]{3}")
# These are compiled when they are first used: few services have their options, and each takes a start some tenths of a millisecond.
# RFC 5424 has 48 characters for APP-NAME; a colon or a bracket ends the name where daemons read the older form.
_IDENTIFIER: Final = r"[!-9;-Z\\^-~]{1,48}"
# Names of a var, and of a header (RFC 9110, section 5.1) without the characters for which Nginx drops one.
_VAR: Final = r"[A-Z][A-Z0-9_]*"
_HEADER: Final = r"[A-Za-z0-9][A-Za-z0-9-]*"
_STATUS: Final = r"[1-5](xx|[0-9]{2})"
_STATSD_PREFIX: Final = r"[A-Za-z0-9._-]+"
# Datadog's rules for tags. A text with `|`, `#` or a comma in it would end the tag.
_STATSD_TAG: Final = r"[A-Za-z0-9_./:-]+"


def _check_address(name: str, value: str) -> None:
    try:
        parse_address(value)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None


def _check_further_address(name: str, value: str) -> None:
    if value:
        _check_address(name, value)


def _check_network(name: str, value: str) -> None:
    from uwsgibridge.config.peers import parse_network  # imported here: few services have one

    parse_network(name, value)


def _check_peer_user(name: str, value: str) -> None:
    from uwsgibridge.config.peers import parse_peer_user  # imported here: few services have one

    parse_peer_user(name, value)


def _check_statsd_host(name: str, value: str) -> None:
    if not value:
        return
    try:
        address = parse_address(value, forms="127.0.0.1:8125 or unix:/run/statsd.sock")
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None
    if isinstance(address, DescriptorAddress) or (
        isinstance(address, TcpAddress) and not address.port
    ):
        raise SettingsError(
            f"{name} {value!r} can't be sent to; write 127.0.0.1:8125 or unix:/run/statsd.sock"
        )


def _check_statsd_prefix(name: str, value: str) -> None:
    if value and not re.fullmatch(_STATSD_PREFIX, value):
        raise SettingsError(f"{name} {value!r} has more than letters, digits and . _ -")


def _check_statsd_tags(name: str, value: str) -> None:
    for tag in value.split(",") if value else ():
        if not re.fullmatch(_STATSD_TAG, tag):
            raise SettingsError(
                f"{name}: {tag!r} is no tag such as env:production, of letters, digits and : . _ / -"
            )


def _check_socket_mode(name: str, value: str) -> None:
    if not _MODE.fullmatch(value):
        raise SettingsError(f"{name} {value!r} is not octal, such as 0660")


def _check_umask(name: str, value: str) -> None:
    if value and not _MODE.fullmatch(value):
        raise SettingsError(f"{name} {value!r} is not octal, such as 027")


def _check_function(name: str, value: str) -> None:
    if value and not all(value.partition(":")):
        raise SettingsError(f"{name} {value!r} is not module:function")


def _check_action(name: str, value: str) -> None:
    from uwsgibridge.config.commands import parse_action  # imported here: few services have one

    parse_action(name, value)


def _check_command(name: str, value: str) -> None:
    from uwsgibridge.config.commands import parse_command  # imported here: few services have one

    parse_command(name, value)


def _check_access_log_file(name: str, value: str) -> None:
    if value == "-":
        raise SettingsError(
            f"{name} - would be a file of that name: write --access-log to have it where the log goes"
        )


def _check_log_target(name: str, value: str) -> None:
    if value != "stderr":
        # Imported here: few services have another place.
        from uwsgibridge.config.log_target import parse_log_target

        parse_log_target(name, value)


def _check_identifier(name: str, value: str) -> None:
    if not re.fullmatch(_IDENTIFIER, value):
        raise SettingsError(
            f"{name} {value!r} is no name for syslog: up to 48 printable ASCII characters without a space, a colon or a bracket"
        )


def _check_status(name: str, value: str) -> None:
    if not re.fullmatch(_STATUS, value):
        raise SettingsError(f"{name} {value!r} is no status such as 404, and no class such as 5xx")


def _check_var(name: str, value: str) -> None:
    if not re.fullmatch(_VAR, value):
        raise SettingsError(
            f"{name} {value!r} is no var such as REQUEST_ID, or HTTP_X_REQUEST_ID for a header of the client"
        )


# Headers that say how an answer is to be read, or where it goes; an id there would break it.
_HEADERS_WITH_A_MEANING: Final = frozenset(
    {"connection", "content-length", "content-type", "host", "location", "set-cookie", "status"}
    | {"transfer-encoding", "upgrade", "proxy"}
)


def _check_id_header(name: str, value: str) -> None:
    if not value:
        return
    if not re.fullmatch(_HEADER, value):
        raise SettingsError(f"{name} {value!r} is no name of a header such as X-Request-ID")
    if value.lower() in _HEADERS_WITH_A_MEANING:
        raise SettingsError(f"{name} {value!r} has a meaning of its own: name another header")


def _check_vars_bytes(name: str, value: int) -> None:
    if value > MAX_VARS_BYTES:
        raise SettingsError(f"{name} {value}: the format holds {MAX_VARS_BYTES}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, which are checked on construction.

    Raises:
        SettingsError: on construction, for a value out of its range.
    """

    bind: tuple[str, ...] = texts(
        DEFAULT_BIND,
        help="Where Nginx connects: unix:/run/app.sock, 127.0.0.1:3031, [::1]:3031 or fd://3. Repeatable.",
        section="Listening",
        metavar="ADDRESS",
        short="-b",
        rule=_check_address,
    )
    socket_mode: str = text(
        "0660",
        help="Permissions of a unix socket, in octal; Nginx's user needs write permission.",
        section="Listening",
        metavar="MODE",
        rule=_check_socket_mode,
    )
    socket_owner: str = text(
        help="Owner of a unix socket; by default --user and --group. Without root, only :GROUP can be given, "
        "with a group that the user is a member of.",
        section="Listening",
        metavar="USER:GROUP",
        shown_default="--user and --group",
    )
    allow_from: tuple[str, ...] = texts(
        help="Which TCP peers may connect to --bind, as a network such as 10.0.0.0/8 or 2001:db8::/32, or an address; "
        "others are closed at once. Whoever connects is believed like Nginx. Unix sockets: --allow-user. Repeatable.",
        section="Listening",
        metavar="NETWORK",
        rule=_check_network,
        shown_default="whoever reaches the address",
    )
    allow_user: tuple[str, ...] = texts(
        help="Which users may connect to the unix sockets of --bind, by name or number, such as www-data; others are closed at "
        "once, root too. Linux only. Repeatable.",
        section="Listening",
        metavar="USER",
        rule=_check_peer_user,
        shown_default="whoever --socket-mode lets in",
    )
    bind_tls_certificate: tuple[str, ...] = texts(
        help="Speak TLS at all of --bind, for uwsgi_pass suwsgi://, with this certificate and the chain behind it, in PEM. "
        "Repeatable, for keys of several kinds such as RSA and EC. Read again at each reload.",
        section="Listening",
        metavar="FILE",
        shown_default="off",
    )
    bind_tls_key: tuple[str, ...] = texts(
        help="The key of --bind-tls-certificate, in PEM; root may read it before --user counts. Repeatable, in the order of "
        "the certificates.",
        section="Listening",
        metavar="FILE",
        shown_default="in the certificate's file",
    )
    bind_tls_client_ca: str = text(
        help="Serve only peers with a certificate that one of these has signed, in PEM: Nginx's uwsgi_ssl_certificate.",
        section="Listening",
        metavar="FILE",
        shown_default="off",
    )
    tls_handshake_seconds: float = seconds(
        10.0,
        help="How many seconds the TLS handshake of a connection may take.",
        section="Listening",
    )
    backlog: int = whole(
        2048,
        most=_MAX_CONNECTIONS,
        help="How many connections may wait in the kernel; Linux caps the number at net.core.somaxconn.",
        section="Listening",
    )
    interface: Interface = choice(
        Interface,
        "auto",
        help="Which interface the application has; auto tells it by the callable.",
        section="Application",
    )
    factory: bool = flag(
        help="APP is a function without arguments that returns the application; module:function() says "
        "the same.",
        section="Application",
    )
    mount: tuple[str, ...] = texts(
        help="Serve a further application below a path; the longest prefix wins. Repeatable.",
        section="Application",
        metavar="PREFIX=APP",
        rule=lambda _name, value: parse_mount(value),
    )
    app_dir: str = text(
        ".",
        help="The directory that the application is imported from.",
        section="Application",
        metavar="DIR",
    )
    chdir: str = text(
        help="Change to this directory before anything else: all paths of other options but --config are relative to "
        "it, and it is where the application runs.",
        section="Application",
        metavar="DIR",
        shown_default="the directory that it is started in",
    )
    env: tuple[str, ...] = texts(
        help="Set a variable of the environment before the application is loaded; NAME alone removes it. --env goes before "
        "--env-file, and both go before what is inherited. Repeatable.",
        section="Application",
        metavar="NAME=VALUE",
        rule=check_variable,
        is_secret=True,
    )
    env_file: tuple[str, ...] = texts(
        help="Set the variables in FILE, one NAME=VALUE a line, in the form that Docker and systemd read alike. A later "
        "file goes before an earlier one. Repeatable.",
        section="Application",
        metavar="FILE",
    )
    python_path: tuple[str, ...] = texts(
        help="Import from this directory before --app-dir; the first one given comes first. Repeatable.",
        section="Application",
        metavar="DIR",
    )
    virtualenv: str = text(
        help="Import from this virtual environment before the one that uwsgibridge is installed in; it has to be one of the "
        "same Python version (3.11, 3.12 ...).",
        section="Application",
        metavar="DIR",
        shown_default="off",
    )
    import_module: tuple[str, ...] = texts(
        help="Import this module, or a Python file, in each process that loads the application, after it. Repeatable.",
        section="Application",
        metavar="MODULE",
    )
    uwsgi_module: bool = flag(
        help="Have the application find the modules uwsgi and uwsgidecorators, with the postfork, lock, timer, cron and others of "
        "uWSGI. Packages that look for uWSGI then take this server for it.",
        section="Application",
        needs_supervisor=True,
    )
    lifespan: LifespanMode = choice(
        LifespanMode,
        "auto",
        help="Whether the application gets lifespan events: on requires that it takes them; auto goes on without "
        "them where it raises before it receives the first.",
        section="Application",
        only="asgi",
    )
    offload: tuple[str, ...] = texts(
        help="Answer with X-Accel-Redirect below URL where an application's X-Sendfile names a file in DIR. "
        "Repeatable.",
        section="Application",
        metavar="URL=DIR",
        rule=lambda _name, value: parse_offload(value),
        shown_default="off",
    )
    static: tuple[str, ...] = texts(
        help="Answer GET and HEAD below URL with the file of that name in DIR, where there is one; all else goes to the "
        "application. DIR may also be a file. Nginx does it at less cost. Repeatable; the longest URL wins.",
        section="Application",
        metavar="URL=DIR",
        rule=lambda _name, value: parse_static(value),
        shown_default="off",
    )
    threads: int = whole(
        8,
        most=_MAX_THREADS,
        help="Threads in each worker that run the application.",
        section="Running",
        only="wsgi",
    )
    static_threads: int = whole(
        2,
        most=_MAX_THREADS,
        help="Threads in each worker that look for files of --static and read them; a slow client holds none of them.",
        section="Running",
    )
    switch_interval_seconds: float = seconds(
        0.0005,
        may_be_zero=True,
        help="How many seconds a thread that computes may keep the interpreter while others wait for it, unless the "
        "application has called sys.setswitchinterval; 0 keeps Python's 0.005.",
        section="Running",
        only="wsgi",
    )
    wsgi_websockets: int = whole(
        0,
        least=0,
        help="WebSockets that a WSGI application may have at a time in a worker, each with a thread of its own, "
        "through simple-websocket, flask-sock or Flask-SocketIO; 0 is none.",
        section="Running",
    )
    loop: Loop = choice(
        Loop,
        "auto",
        help="The event loop that runs the application; auto is uvloop where it is installed, else asyncio.",
        section="Running",
        only="asgi",
    )
    graceful_timeout_seconds: float = seconds(
        30.0,
        may_be_zero=True,
        help="How many seconds running requests may take to end at a stop; 0 breaks them off at once.",
        section="Running",
    )
    stream_drain_seconds: float = seconds(
        10.0,
        may_be_zero=True,
        help="How many seconds, at a stop, answers without a Content-Length may go on before their application is "
        "told to end them; server-sent events are told at once. At most half of "
        "--graceful-timeout-seconds counts; 0 tells all at once.",
        section="Running",
    )
    drain_delay_seconds: float = seconds(
        0.0,
        may_be_zero=True,
        help="How many seconds, from a stop's signal on, new requests are still accepted and answered, while /healthz is 503 and "
        "load balancers forget this service; running requests have --graceful-timeout-seconds after that. A second "
        "signal ends the delay; 0 is no delay.",
        section="Running",
        needs_supervisor=True,
    )
    lifespan_timeout_seconds: float = seconds(
        60.0,
        help="How many seconds the application's startup may take, and as many its shutdown.",
        section="Running",
        only="asgi",
    )
    workers: int = whole(
        usable_cpus,
        least=0,
        most=MAX_WORKERS,
        help="Worker processes, which a supervisor replaces, reloads and recycles. 0 is none: this process "
        "serves by itself.",
        section="Processes",
        short="-w",
        shown_default="WEB_CONCURRENCY in the environment, else the usable CPUs",
        default_variable="WEB_CONCURRENCY",
    )
    workers_min: int = whole(
        0,
        least=0,
        most=MAX_WORKERS,
        help="The fewest workers where their number follows the load: workers are added while requests wait, and "
        "taken away while idle. 0 counts as 1; then the number follows the load only with --workers-max.",
        section="Processes",
        needs_supervisor=True,
    )
    workers_max: int = whole(
        0,
        least=0,
        most=MAX_WORKERS,
        help="The most workers where their number follows the load, see --workers-min. 0 counts as "
        "--workers; then the number follows the load only with --workers-min.",
        section="Processes",
        needs_supervisor=True,
    )
    scale_queue_seconds: float = seconds(
        0.1,
        help="Requests that wait longer than so many seconds are a reason to add workers, see "
        "--scale-up-seconds.",
        section="Processes",
    )
    scale_up_seconds: float = seconds(
        2.0,
        help="Workers are added when, for so many seconds, connections have waited in the kernel, or requests "
        "longer than --scale-queue-seconds.",
        section="Processes",
    )
    scale_idle_seconds: float = seconds(
        60.0,
        help="One worker is taken away when, for so many seconds, the others alone would have been more than enough.",
        section="Processes",
    )
    preload: bool = flag(
        help="Load the application once, before workers are forked, so that they share its memory.",
        section="Processes",
        needs_supervisor=True,
    )
    on_load: str = text(
        help="A function without arguments that is called before the application is imported, in each process that "
        "imports it, such as one that configures loggers or starts tracing.",
        section="Processes",
        metavar="MODULE:FUNCTION",
        rule=_check_function,
        shown_default="off",
    )
    on_fork: str = text(
        help="A function without arguments that each worker calls before it serves, such as one that opens "
        "its own database connections.",
        section="Processes",
        metavar="MODULE:FUNCTION",
        rule=_check_function,
        shown_default="off",
    )
    on_worker_exit: str = text(
        help="A function without arguments that each worker calls when it has drained.",
        section="Processes",
        metavar="MODULE:FUNCTION",
        rule=_check_function,
        shown_default="off",
    )
    on_start: tuple[str, ...] = texts(
        help="What is done before the application is loaded, at a start, and at no reload or upgrade: exec:COMMAND "
        "or touch:FILE. No shell runs the command. Where it fails, there is no start. Repeatable.",
        section="Processes",
        metavar="ACTION",
        rule=_check_action,
        one_a_line=True,
    )
    on_start_seconds: float = seconds(
        300.0,
        help="How many seconds each command of --on-start may take; then it is ended, and there is no start.",
        section="Processes",
    )
    on_ready: tuple[str, ...] = texts(
        help="What is done once the first workers accept requests, at a start, and at no reload or upgrade: "
        "exec:COMMAND or touch:FILE. No shell runs the command. Where it fails, that is logged. Repeatable.",
        section="Processes",
        metavar="ACTION",
        rule=_check_action,
        one_a_line=True,
    )
    on_ready_seconds: float = seconds(
        300.0,
        help="How many seconds each command of --on-ready may take; then it is ended, and that is logged.",
        section="Processes",
    )
    sidecar: tuple[str, ...] = texts(
        help="A command that runs beside the workers, such as a queue's worker or a scheduler: it is started when "
        "the first workers are ready, started again when it ends, restarted by a reload, and stopped with the "
        "rest. No shell runs it. Repeatable.",
        section="Processes",
        metavar="COMMAND",
        rule=_check_command,
        one_a_line=True,
        needs_supervisor=True,
    )
    heartbeat_timeout_seconds: float = seconds(
        60.0,
        may_be_zero=True,
        help="How many seconds a worker may give no answer to its supervisor, which asks each second; then the "
        "worker's stack is logged, and the worker is killed and replaced. 0 is no limit.",
        section="Processes",
    )
    prometheus_multiproc_dir: str = text(
        help="Have prometheus_client share the application's figures by files in this directory: sets "
        "PROMETHEUS_MULTIPROC_DIR, makes the directory or empties it at a start, and folds what ended workers have left there "
        "into one file for each kind.",
        section="Processes",
        metavar="DIR",
        shown_default="off",
    )
    prometheus_multiproc_gauges: int = whole(
        16,
        least=0,
        most=_MAX_KEPT_GAUGES,
        help="With --prometheus-multiproc-dir, of how many ended processes the gauges of the mode all are kept, each with "
        "its pid; of the others, they are removed. 0 keeps none.",
        section="Processes",
    )
    control_socket: str = text(
        help="The socket at which uwsgibridge ctl finds the supervisor; the word none makes no socket. "
        "By default it is in a directory of the user's own, where ctl looks for it.",
        section="Processes",
        metavar="PATH",
        shown_default="in a directory of the user's own",
    )
    reload: bool = flag(
        help="Reload when Python files below --app-dir change; needs the package watchfiles.",
        section="Reloading",
        needs_supervisor=True,
    )
    reload_dir: tuple[str, ...] = texts(
        help="With --reload, watch this directory instead of --app-dir. Repeatable.",
        section="Reloading",
        metavar="DIR",
        shown_default="--app-dir",
    )
    reload_include: tuple[str, ...] = texts(
        help="With --reload, files beside *.py whose change counts, such as *.html. Repeatable.",
        section="Reloading",
        metavar="GLOB",
    )
    reload_exclude: tuple[str, ...] = texts(
        help="With --reload, files whose change does not count. Repeatable.",
        section="Reloading",
        metavar="GLOB",
    )
    touch_reload: tuple[str, ...] = texts(
        help="Reload when this file is touched, replaced or made. Repeatable.",
        section="Reloading",
        metavar="FILE",
        needs_supervisor=True,
        shown_default="off",
    )
    reload_mode: ReloadMode = choice(
        ReloadMode,
        "all",
        help="How a reload replaces workers: all brings up all new workers before the old ones drain; chain "
        "replaces one after the other, with less memory and for a longer time.",
        section="Reloading",
    )
    max_requests: int = whole(
        0,
        least=0,
        help="Requests after which a worker is replaced: a new one comes first, then the old one drains, one "
        "worker at a time. 0 replaces none.",
        section="Recycling",
        needs_supervisor=True,
    )
    max_requests_jitter: int = whole(
        0,
        least=0,
        help="Up to so many requests, by chance, are added to --max-requests for each worker, so that workers are "
        "not replaced together; 0 adds none.",
        section="Recycling",
    )
    worker_lifetime_seconds: float = seconds(
        0.0,
        may_be_zero=True,
        help="Age in seconds at which a worker is replaced, as for --max-requests. 0 replaces none.",
        section="Recycling",
        needs_supervisor=True,
    )
    worker_lifetime_jitter_seconds: float = seconds(
        0.0,
        may_be_zero=True,
        help="Up to so many seconds, by chance, are added to --worker-lifetime-seconds for each worker, so that "
        "workers are not replaced together; 0 adds none.",
        section="Recycling",
    )
    max_rss_bytes: int = size(
        0,
        least=0,
        help="Bytes of memory above which a worker is replaced, as for --max-requests: its resident set, what it "
        "shares with others included. 0 replaces none.",
        section="Recycling",
        needs_supervisor=True,
    )
    max_rss_hard_bytes: int = size(
        0,
        least=0,
        help="Bytes of memory, counted as for --max-rss-bytes, above which a worker is killed at once, with the "
        "requests that it holds. 0 kills none.",
        section="Recycling",
        needs_supervisor=True,
    )
    user: str = text(
        help="The user to become when the sockets are open, by name or number. Needs root.",
        section="System",
        shown_default="the user that starts it",
    )
    group: str = text(
        help="The group to become, which unix sockets have as well; by default the user's. Without root, a group "
        "that the user is a member of, for the sockets alone.",
        section="System",
        shown_default="the user's",
    )
    umask: str = text(
        help="Permissions that new files do not get, in octal.",
        section="System",
        metavar="MODE",
        rule=_check_umask,
        shown_default="as inherited",
    )
    pid_file: str = text(
        help="A file that holds the supervisor's process number.",
        section="System",
        metavar="FILE",
        shown_default="off",
    )
    title: str = text(
        help="What ps shows of each process, followed by the role of the process.",
        section="System",
        shown_default="the command line",
    )
    tracemalloc: int = whole(
        0,
        least=0,
        most=100,
        help="Trace the memory of workers, with so many frames of each allocation, so that ctl memory tells which lines hold "
        "it; Python takes twice the time and more memory for that. 0 traces nothing.",
        section="System",
        needs_supervisor=True,
        metavar="FRAMES",
    )
    worker_oom_score: int = whole(
        100,
        least=0,
        most=_MAX_OOM_SCORE,
        help="Added to the score that workers and sidecars have with Linux's out-of-memory killer (oom_score_adj), "
        "so that it takes one of them and not the supervisor; 0 adds nothing.",
        section="System",
    )
    request_timeout_seconds: float = seconds(
        0.0,
        may_be_zero=True,
        help="How many seconds an application may take for a request; then its stack is logged and the client gets "
        "504. An ASGI task is cancelled, a WSGI thread is interrupted; one that goes on all the same is "
        "given up: the worker is replaced, and with --workers 0 the process drains and exits. 0 is no "
        "limit.",
        section="Limits",
    )
    request_interrupt_seconds: float = seconds(
        1.0,
        may_be_zero=True,
        help="How many seconds a WSGI thread may take to come back from a request over "
        "--request-timeout-seconds, after an exception was raised in it (uwsgibridge.RequestInterrupted); then the "
        "thread is lost. 0 raises nothing, and such a thread is lost at once.",
        section="Limits",
    )
    accept_margin: int = whole(
        16,
        least=0,
        most=_MAX_CONNECTIONS,
        help="Requests that a worker accepts beyond its threads; all others wait in the kernel. 0 accepts none "
        "beyond them.",
        section="Limits",
        only="wsgi",
    )
    max_concurrency: int = whole(
        4096,
        most=_MAX_CONNECTIONS,
        help="Requests that run at once in a worker, for an ASGI application or for files of --static; all others wait in the "
        "kernel.",
        section="Limits",
    )
    max_queue_seconds: float = seconds(
        0.0,
        may_be_zero=True,
        help="How many seconds a request may wait before its application is called, since Nginx has sent it (its var "
        "UWSGIBRIDGE_SENT), or else since it was accepted; over it, 503 with Retry-After. 0 is no limit.",
        section="Limits",
    )
    mount_limit: tuple[str, ...] = texts(
        help="So many requests at PREFIX or below it may run at once in a worker, so that they leave places to others; one more "
        "waits for --max-queue-seconds, or gets 503 at once where that is 0. The longest prefix counts. Repeatable.",
        section="Limits",
        metavar="PREFIX=N",
        rule=lambda _name, value: parse_mount_limit(value),
        shown_default="off",
    )
    health_path: tuple[str, ...] = texts(
        help="A path that --max-queue-seconds and --mount-limit do not concern, such as that of a health check. Repeatable.",
        section="Limits",
        metavar="PATH",
        rule=lambda _name, value: check_health_path(value),
        shown_default="off",
    )
    run_abandoned: bool = flag(
        help="Run requests whose clients have left while they waited, which are dropped otherwise.",
        section="Limits",
    )
    max_vars_bytes: int = size(
        MAX_VARS_BYTES,
        help="Bytes of vars (headers and more) that a request may have; over it, 431.",
        section="Limits",
        rule=_check_vars_bytes,
    )
    max_vars: int = whole(
        1000,
        # A var takes four bytes or more, of at most MAX_VARS_BYTES.
        most=MAX_VARS_BYTES,
        help="Number of vars (headers and more) that a request may have; over it, 431.",
        section="Limits",
    )
    max_body_bytes: int = size(
        0,
        least=0,
        help="Bytes of body that a request may have; over it, 413. 0 leaves it to Nginx.",
        section="Limits",
    )
    packet_timeout_seconds: float = seconds(
        10.0, help="How many seconds a request's vars may take to arrive.", section="Limits"
    )
    body_timeout_seconds: float = seconds(
        60.0,
        help="How many seconds the next piece of a request's body may take to arrive.",
        section="Limits",
    )
    write_timeout_seconds: float = seconds(
        60.0,
        help="How many seconds Nginx may take to accept the next 256 KiB of an answer.",
        section="Limits",
    )
    gone_client_send_seconds: float = seconds(
        1.0,
        help="How many seconds an application may go on sending to a client that has left; then send raises an "
        "OSError, and after as long again the task is cancelled.",
        section="Limits",
        only="asgi",
    )
    linger_seconds: float = seconds(
        5.0,
        may_be_zero=True,
        help="How many seconds the body that an application left unread is received and discarded after the answer; "
        "0 closes at once.",
        section="Limits",
    )
    websocket_max_message_bytes: int = size(
        16_777_216,
        help="Bytes that a WebSocket message from a client may have; over it, close 1009.",
        section="Limits",
        only="asgi",
    )
    websocket_ping_seconds: float = seconds(
        20.0,
        may_be_zero=True,
        help="Seconds between pings to a WebSocket's client, which keep Nginx's uwsgi_read_timeout (60 s) from "
        "ending the tunnel; 0 sends none.",
        section="Limits",
        only="asgi",
    )
    websocket_first_sign_seconds: float = seconds(
        60.0,
        may_be_zero=True,
        help="How many seconds a WebSocket's client may send nothing at all after its handshake, no answer to a ping "
        "either, where SERVER_SOFTWARE does not say that the frontend is Nginx; 0 is no limit.",
        section="Limits",
        only="asgi",
    )
    websocket_deflate: bool = flag(
        help="Agree to permessage-deflate on WebSockets: fewer bytes to send, more CPU, and up to 300 KiB "
        "of memory during a message.",
        section="Limits",
        only="asgi",
    )
    frontend_buffer_bytes: int = size(
        4096,
        help="Bytes of Nginx's uwsgi_buffer_size; an answer whose head is over it is logged, since Nginx answers 502.",
        section="Limits",
    )
    loop_block_warning_seconds: float = seconds(
        1.0,
        may_be_zero=True,
        help="How many seconds an application may block the event loop before its stack is logged; 0 logs none.",
        section="Logging",
        only="asgi",
    )
    slow_request_seconds: float = seconds(
        0.0,
        may_be_zero=True,
        help="How many seconds a request may run before that is logged, once and while it still runs, with where it stands; "
        "WebSockets and streams of events are left out. 0 logs none.",
        section="Logging",
    )
    access_log: bool = flag(
        help="Log a line for each request; Nginx writes such a log already.", section="Logging"
    )
    access_log_format: str = text(
        "auto",
        help="Form of the access log's lines: auto, combined, json, short, or a text with variables of uWSGI, such as "
        "%(status), or of gunicorn, such as %(s)s. auto is json where the log is JSON, and combined elsewhere: Apache's "
        "form. Both have the time in the queue and in the application. short is for a person at a terminal.",
        section="Logging",
        metavar="FORMAT",
        rule=parse_format,
    )
    access_log_file: str = text(
        help="Write an access log, and append it to this file; SIGUSR1 opens it anew.",
        section="Logging",
        metavar="FILE",
        rule=_check_access_log_file,
        shown_default="where the log goes",
    )
    access_log_status: tuple[str, ...] = texts(
        help="Write an access log of requests with such a status alone, 404 or 5xx, and of those over "
        "--access-log-slow-seconds. Repeatable.",
        section="Logging",
        metavar="STATUS",
        rule=_check_status,
        shown_default="all",
    )
    access_log_slow_seconds: float = seconds(
        0.0,
        may_be_zero=True,
        help="Write an access log of requests alone that take so many seconds or more, with their time in the queue, and of "
        "those of --access-log-status; 0 sets no such condition.",
        section="Logging",
    )
    request_id_from: tuple[str, ...] = texts(
        "REQUEST_ID",
        "HTTP_X_REQUEST_ID",
        help="The var that a request's id is taken from, the first one that has an id; else an id is made. A client sets "
        "HTTP_X_REQUEST_ID by its header, unless Nginx does. Repeatable.",
        section="Logging",
        metavar="VAR",
        rule=_check_var,
    )
    request_id_header: str = text(
        help="Send each answer with this header, which has the request's id, and give the application the same id as the "
        "request's own header of that name, such as X-Request-ID.",
        section="Logging",
        metavar="NAME",
        rule=_check_id_header,
        shown_default="off",
    )
    trace_context: bool = flag(
        help="Log the trace_id and span_id of a request's traceparent (W3C Trace Context) with all that is logged of it; where "
        "a request has none, begin a trace, and give the application the traceparent.",
        section="Logging",
    )
    otel: bool = flag(
        help="Make a span of OpenTelemetry for each request, below the span of its traceparent and above the application's own. "
        "OTEL_EXPORTER_OTLP_ENDPOINT and other variables of its specification configure it. Needs uwsgibridge[otel].",
        section="Logging",
    )
    otel_flush_seconds: float = seconds(
        3.0,
        may_be_zero=True,
        help="How many seconds a worker's end waits for its last spans to be exported; 0 does not wait.",
        section="Logging",
    )
    log_file: str = text(
        help="Append the log, and all else on standard error, to this file; SIGUSR1 opens it anew.",
        section="Logging",
        metavar="FILE",
        shown_default="standard error",
    )
    log_format: LogFormat = choice(
        LogFormat,
        "auto",
        help="Form of the log's lines: auto is text on a terminal and JSON elsewhere.",
        section="Logging",
    )
    log_buffer_bytes: int = size(
        1024 * 1024,
        help="So many bytes of the log are kept, in each process, for a reader that does not keep up; "
        "lines over it are dropped and counted.",
        section="Logging",
    )
    log_level: LogLevel = choice(
        LogLevel, "info", help="The least level that is logged.", section="Logging"
    )
    log_to: tuple[str, ...] = texts(
        "stderr",
        help="Where the log goes: stderr, which --log-file leads to a file; journald, with the fields of each event; syslog, which "
        "is the daemon at /dev/log; or syslog:PATH or syslog:HOST:PORT (UDP). The access log goes there, too, unless it has a "
        "file. Repeatable.",
        section="Logging",
        metavar="PLACE",
        rule=_check_log_target,
    )
    log_identifier: str = text(
        "uwsgibridge",
        help="The name of the program in journald's entries and syslog's messages.",
        section="Logging",
        metavar="NAME",
        rule=_check_identifier,
    )
    syslog_facility: Facility = choice(
        Facility, "user", help="The facility of syslog's messages.", section="Logging"
    )
    app_logging: AppLogging = choice(
        AppLogging,
        "bridge",
        help="What becomes of records of Python's logging that no handler of the application's takes: bridge makes an event "
        "of the log of each, own leaves logging as Python has it.",
        section="Logging",
    )
    log_config: str = text(
        help="Configure Python's logging by this file before the application is loaded: a dictionary for logging.config in TOML, JSON "
        "or YAML (which needs PyYAML), by the end of its name; any other file is for logging.config.fileConfig.",
        section="Logging",
        metavar="FILE",
        shown_default="off",
    )
    app_log_level: AppLogLevel = choice(
        AppLogLevel,
        "auto",
        help="With --app-logging bridge, the level of Python's root logger, unless the application has given it handlers; auto "
        "leaves it as it is, which is warning where the application does not set it.",
        section="Logging",
    )
    status_bind: str = text(
        help="Answer /metrics and /healthz, and with a supervisor the live page at /, at this address, which speaks uwsgi as --bind does: unix:/run/status.sock, "
        "127.0.0.1:3032, [::1]:3032 or fd://4. Nginx publishes it, see uwsgibridge nginx --status. A unix socket has the owner "
        "and the mode of those of --bind.",
        section="Figures",
        metavar="ADDRESS",
        rule=_check_further_address,
        shown_default="off",
    )
    status_connections: int = whole(
        32,
        most=_MAX_CONNECTIONS,
        help="Connections that --status-bind, and as many that --uwsgi-stats, has at a time; over it, 503 at --status-bind.",
        section="Figures",
    )
    metrics_names: MetricsNames = choice(
        MetricsNames,
        "uwsgibridge",
        help="Which names figures have: uwsgi_exporter is those that dashboards for uWSGI know, and has only what uWSGI's "
        "statistics have.",
        section="Figures",
    )
    metrics_file: str = text(
        help="Write the figures to this file, for the textfile collector of node_exporter, whose files end in .prom.",
        section="Figures",
        metavar="FILE",
        shown_default="off",
    )
    metrics_file_seconds: float = seconds(
        15.0,
        help="How many seconds lie between two writings of --metrics-file.",
        section="Figures",
    )
    statsd_host: str = text(
        help="Send the figures to statsd, by UDP or to a unix datagram socket.",
        section="Figures",
        metavar="HOST:PORT",
        rule=_check_statsd_host,
        shown_default="off",
    )
    statsd_prefix: str = text(
        help="What the names at statsd begin with, before uwsgibridge.; a dot follows it.",
        section="Figures",
        metavar="TEXT",
        rule=_check_statsd_prefix,
        shown_default="nothing",
    )
    statsd_tags: str = text(
        help="Tags of each figure at statsd, such as env:production,team:web, in the form of dogstatsd.",
        section="Figures",
        metavar="TAGS",
        rule=_check_statsd_tags,
        shown_default="nothing",
    )
    statsd_format: StatsdFormat = choice(
        StatsdFormat,
        "auto",
        help="How labels such as the mount are sent: dogstatsd as tags, plain as parts of the name; auto is dogstatsd with "
        "--statsd-tags, else plain.",
        section="Figures",
    )
    statsd_seconds: float = seconds(
        10.0,
        help="How many seconds lie between two sendings to --statsd-host.",
        section="Figures",
    )
    uwsgi_stats: str = text(
        help="Give statistics in the form of uWSGI's at this address, as JSON to whoever connects, for uwsgitop and "
        "uwsgi_exporter.",
        section="Figures",
        metavar="ADDRESS",
        rule=_check_further_address,
        shown_default="off",
    )
    uwsgi_stats_http: bool = flag(
        help="Precede the statistics of --uwsgi-stats by the head of an HTTP answer, as uWSGI's stats-http does.",
        section="Figures",
    )

    metrics_buckets: str = text(
        DEFAULT_BUCKETS,
        help="Upper bounds, in seconds, of the ranges that the times of requests are counted in.",
        section="Figures",
        metavar="SECONDS,...",
        rule=parse_buckets,
    )

    def __post_init__(self) -> None:
        if not self.bind:
            raise SettingsError("--bind names no address")
        for name, option in OPTIONS.items():
            option.check(option_name(name), getattr(self, name))
        prefixes = [parse_mount_limit(it)[0] for it in self.mount_limit]
        if twice := {it or "/" for it in prefixes if prefixes.count(it) > 1}:
            raise SettingsError(f"--mount-limit names {min(twice)} twice")
        if self.workers_max and self.workers_max < max(self.workers_min, 1):
            raise SettingsError(
                f"--workers-max {self.workers_max} is below --workers-min {self.workers_min}"
            )
        if 0 < self.max_rss_hard_bytes <= self.max_rss_bytes:
            raise SettingsError(
                f"--max-rss-hard-bytes {self.max_rss_hard_bytes} must be above --max-rss-bytes "
                f"{self.max_rss_bytes}"
            )
        named = [*self.bind, *filter(None, (self.status_bind, self.uwsgi_stats))]
        for name in ("status_bind", "uwsgi_stats"):
            address = getattr(self, name)
            # A port of 0 is a free one, and another one each time. Workers have descriptors in the place of the addresses.
            if (
                named.count(address) > 1
                and not address.endswith(":0")
                and not address.startswith("fd://")
            ):
                raise SettingsError(
                    f"{option_name(name)} {address}: another option has this address; it needs one of its own"
                )
        if self.statsd_format == "plain" and self.statsd_tags:
            raise SettingsError("--statsd-tags are dogstatsd's: --statsd-format plain has none")
        if self.workers == 0:
            for name, option in OPTIONS.items():
                if option.needs_supervisor and getattr(self, name):
                    raise SettingsError(
                        f"{option_name(name)} needs a supervisor: --workers 1 or more"
                    )

    @property
    def speaks_tls(self) -> bool:
        """Whether any option asks for TLS; `connection.tls` has the rules about several of them."""
        return bool(self.bind_tls_certificate or self.bind_tls_key or self.bind_tls_client_ca)

    @property
    def publishes_figures(self) -> bool:
        """Whether any option asks for figures to be published."""
        return bool(self.status_bind or self.uwsgi_stats or self.metrics_file or self.statsd_host)


# The rows of the table, in its order, by the names of their fields.
OPTIONS: Final[Mapping[str, Option]] = {
    one.name: one.metadata["option"] for one in dataclasses.fields(Settings)
}
