"""All settings of gunicorn 27.0: their names in a file, their flags, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from uwsgibridge.migration.gunicorn.values import Kind


class Flag(Enum):
    """What a flag takes on the command line."""

    VALUE = auto()  # one value
    EACH = auto()  # one value, and the flag can be given several times
    ON = auto()  # nothing: it sets True
    OFF = auto()  # nothing: it sets False
    MAYBE = auto()  # a value or nothing, which is "auto"


@dataclass(frozen=True, slots=True)
class KnownSetting:
    """One setting of gunicorn.

    Attributes:
        name: in a configuration file.
        kind: of its value.
        flags: on the command line; empty for what stands in a file only.
        flag: what the flags take.
        default: its value where nothing is given.
        arities: of a hook, how many arguments it may take.
    """

    name: str
    kind: Kind
    flags: tuple[str, ...] = ()
    flag: Flag = Flag.VALUE
    default: Any = None
    arities: tuple[int, ...] = ()

    @property
    def group(self) -> str:
        """The name that ``--ignore`` takes."""
        return self.name.replace("_", "-")


def _text(name: str, flags: str = "", default: str | None = None) -> KnownSetting:
    return KnownSetting(name, Kind.TEXT, tuple(flags.split()), default=default)


def _whole(name: str, flags: str, default: int) -> KnownSetting:
    return KnownSetting(name, Kind.WHOLE, tuple(flags.split()), default=default)


def _flag(name: str, flags: str) -> KnownSetting:
    return KnownSetting(name, Kind.FLAG, tuple(flags.split()), Flag.ON, default=False)


def _texts(name: str, flags: str) -> KnownSetting:
    return KnownSetting(name, Kind.TEXTS, tuple(flags.split()), Flag.EACH, default=[])


def _commas(name: str, flags: str, default: str) -> KnownSetting:
    return KnownSetting(name, Kind.COMMAS, tuple(flags.split()), default=default.split(","))


def _any(name: str, flags: str = "", default: Any = None) -> KnownSetting:
    return KnownSetting(name, Kind.ANY, tuple(flags.split()), default=default)


def _hook(name: str, *arities: int) -> KnownSetting:
    return KnownSetting(name, Kind.HOOK, arities=arities)


_LOCAL: Final = "127.0.0.1,::1"

# gunicorn writes an access log of this form where none is given.
ACCESS_LOG_FORMAT: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

_ALL: Final = (
    # The configuration file and the application.
    _text("config", "-c --config", "./gunicorn.conf.py"),
    _text("wsgi_app"),
    # Sockets.
    KnownSetting("bind", Kind.TEXTS, ("-b", "--bind"), Flag.EACH, default=["127.0.0.1:8000"]),
    _whole("backlog", "--backlog", 2048),
    _flag("reuse_port", "--reuse-port"),
    # Workers.
    _whole("workers", "-w --workers", 1),
    KnownSetting("worker_class", Kind.CLASS, ("-k", "--worker-class"), default="sync"),
    _whole("threads", "--threads", 1),
    _whole("worker_connections", "--worker-connections", 1000),
    _whole("max_requests", "--max-requests", 0),
    _whole("max_requests_jitter", "--max-requests-jitter", 0),
    _whole("timeout", "-t --timeout", 30),
    _whole("graceful_timeout", "--graceful-timeout", 30),
    _whole("keepalive", "--keep-alive", 2),
    _any("asgi_loop", "--asgi-loop", "auto"),
    _any("asgi_lifespan", "--asgi-lifespan", "auto"),
    _whole("asgi_disconnect_grace_period", "--asgi-disconnect-grace-period", 3),
    _whole("websocket_max_message_size", "--websocket-max-message-size", 16 * 1024 * 1024),
    _any("http_parser", "--http-parser", "auto"),
    # Requests.
    _whole("limit_request_line", "--limit-request-line", 4094),
    _whole("limit_request_fields", "--limit-request-fields", 100),
    _whole("limit_request_field_size", "--limit-request-field_size", 8190),
    KnownSetting("secure_scheme_headers", Kind.DICTIONARY, default={
        "X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on",
    }),
    _commas("forwarded_allow_ips", "--forwarded-allow-ips", _LOCAL),
    KnownSetting("proxy_protocol", Kind.ANY, ("--proxy-protocol",), Flag.MAYBE, default="off"),
    _commas("proxy_allow_ips", "--proxy-allow-from", _LOCAL),
    _text("protocol", "--protocol", "http"),
    _commas("uwsgi_allow_ips", "--uwsgi-allow-from", _LOCAL),
    _commas("forwarder_headers", "--forwarder-headers", "SCRIPT_NAME,PATH_INFO"),
    _any("header_map", "--header-map", "drop"),
    _flag("permit_obsolete_folding", "--permit-obsolete-folding"),
    _flag("strip_header_spaces", "--strip-header-spaces"),
    _flag("permit_unconventional_http_method", "--permit-unconventional-http-method"),
    _flag("permit_unconventional_http_version", "--permit-unconventional-http-version"),
    _flag("casefold_http_method", "--casefold-http-method"),
    _text("root_path", "--root-path", ""),
    # Debugging.
    _flag("reload", "--reload"),
    _any("reload_engine", "--reload-engine", "auto"),
    _texts("reload_extra_files", "--reload-extra-file"),
    _flag("spew", "--spew"),
    _flag("check_config", "--check-config"),
    _flag("print_config", "--print-config"),
    # The process.
    _flag("preload_app", "--preload"),
    KnownSetting("sendfile", Kind.FLAG, ("--no-sendfile",), Flag.OFF),
    _text("chdir", "--chdir"),
    _flag("daemon", "-D --daemon"),
    _texts("raw_env", "-e --env"),
    _text("pidfile", "-p --pid"),
    _text("worker_tmp_dir", "--worker-tmp-dir"),
    KnownSetting("user", Kind.ACCOUNT, ("-u", "--user")),
    KnownSetting("group", Kind.ACCOUNT, ("-g", "--group")),
    KnownSetting("umask", Kind.OCTAL, ("-m", "--umask"), default=0),
    _flag("initgroups", "--initgroups"),
    _text("tmp_upload_dir"),
    _text("pythonpath", "--pythonpath"),
    _text("paste", "--paste --paster"),
    _texts("raw_paste_global_conf", "--paste-global"),
    _text("proc_name", "-n --name"),
    _text("default_proc_name", "", "gunicorn"),
    # The log.
    _text("accesslog", "--access-logfile"),
    _flag("disable_redirect_access_to_syslog", "--disable-redirect-access-to-syslog"),
    _text("access_log_format", "--access-logformat", ACCESS_LOG_FORMAT),
    _text("errorlog", "--error-logfile --log-file", "-"),
    _text("loglevel", "--log-level", "info"),
    _flag("capture_output", "--capture-output"),
    KnownSetting("logger_class", Kind.CLASS, ("--logger-class",), default="gunicorn.glogging.Logger"),
    _text("logconfig", "--log-config"),
    KnownSetting("logconfig_dict", Kind.DICTIONARY, default={}),
    _text("logconfig_json", "--log-config-json"),
    _text("syslog_addr", "--log-syslog-to", "udp://localhost:514"),
    _flag("syslog", "--log-syslog"),
    _text("syslog_prefix", "--log-syslog-prefix"),
    _text("syslog_facility", "--log-syslog-facility", "user"),
    _flag("enable_stdio_inheritance", "-R --enable-stdio-inheritance"),
    _text("statsd_host", "--statsd-host"),
    _text("dogstatsd_tags", "--dogstatsd-tags", ""),
    _text("statsd_prefix", "--statsd-prefix", ""),
    _flag("enable_backlog_metric", "--enable-backlog-metric"),
    # Hooks.
    _hook("on_starting", 1),
    _hook("on_reload", 1),
    _hook("when_ready", 1),
    _hook("pre_fork", 2),
    _hook("post_fork", 2),
    _hook("post_worker_init", 1),
    _hook("worker_int", 1),
    _hook("worker_abort", 1),
    _hook("pre_exec", 1),
    _hook("pre_request", 2),
    _hook("post_request", 2, 3, 4),
    _hook("child_exit", 2),
    _hook("worker_exit", 2),
    _hook("nworkers_changed", 3),
    _hook("on_exit", 1),
    _hook("ssl_context", 2),
    # TLS and HTTP/2.
    _text("keyfile", "--keyfile"),
    _text("certfile", "--certfile"),
    _any("ssl_version", "--ssl-version"),
    _any("cert_reqs", "--cert-reqs", 0),
    _text("ca_certs", "--ca-certs"),
    KnownSetting("suppress_ragged_eofs", Kind.FLAG, ("--suppress-ragged-eofs",), Flag.ON, default=True),
    _flag("do_handshake_on_connect", "--do-handshake-on-connect"),
    _text("ciphers", "--ciphers"),
    _text("http_protocols", "--http-protocols", "h1"),
    _any("http2_cleartext", "--http2-cleartext", "off"),
    _whole("http2_max_concurrent_streams", "--http2-max-concurrent-streams", 100),
    _whole("http2_initial_window_size", "--http2-initial-window-size", 65535),
    _whole("http2_max_frame_size", "--http2-max-frame-size", 16384),
    _whole("http2_max_header_list_size", "--http2-max-header-list-size", 65536),
    # Processes for long tasks.
    _texts("dirty_apps", "--dirty-app"),
    _whole("dirty_workers", "--dirty-workers", 0),
    _whole("dirty_timeout", "--dirty-timeout", 300),
    _whole("dirty_threads", "--dirty-threads", 1),
    _whole("dirty_graceful_timeout", "--dirty-graceful-timeout", 30),
    _hook("on_dirty_starting", 1),
    _hook("dirty_post_fork", 2),
    _hook("dirty_worker_init", 1),
    _hook("dirty_worker_exit", 2),
    # The control socket.
    _text("control_socket", "--control-socket"),
    KnownSetting("control_socket_mode", Kind.OCTAL, ("--control-socket-mode",), default=0o600),
    _flag("control_socket_disable", "--no-control-socket"),
)  # fmt: skip

SETTINGS: Final[Mapping[str, KnownSetting]] = {one.name: one for one in _ALL}
