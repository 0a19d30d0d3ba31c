"""Names of uWSGI's modules that have nothing like them here, each with what to use instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

_CACHE: Final = "the cache of the framework, Redis or memcached does that"
_QUEUE: Final = (
    "a task queue such as Celery, RQ or Dramatiq does that, with its worker as a --sidecar"
)
_MESSAGE: Final = (
    "Redis or another broker carries messages between processes; a --sidecar takes them"
)
_SIGNAL: Final = "a signal is raised by timers and crons alone; Redis or a task queue does the rest"
_RPC: Final = "HTTP or a message broker does that"
_SOCKET: Final = "the module socket does that"
_GREEN: Final = (
    "there are no green threads here; an ASGI application may wait for many things at a time"
)
_WEBSOCKET: Final = (
    "flask-sock or simple-websocket with --wsgi-websockets, or an ASGI application, has WebSockets"
)
_METRICS: Final = "prometheus-client or OpenTelemetry has figures of the application"
_MEMORY: Final = "multiprocessing.shared_memory does that"

# Functions that uWSGI always has: each is there, and fails when it is called.
FUNCTIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("cache_get", "cache_set", "cache_update", "cache_del", "cache_exists", "cache_clear", "cache_inc", "cache_dec",
         "cache_mul", "cache_div", "cache_num", "cache_keys"),
        _CACHE,
    ),
    **dict.fromkeys(
        ("mule_msg", "mule_get_msg", "farm_msg", "farm_get_msg", "in_farm"), _MESSAGE
    ),
    **dict.fromkeys(("signal", "signal_wait", "signal_received"), _SIGNAL),
    **dict.fromkeys(("register_rpc", "rpc", "call"), _RPC),
    **dict.fromkeys(
        ("websocket_handshake", "websocket_recv", "websocket_recv_nb", "websocket_send", "websocket_send_binary"),
        _WEBSOCKET,
    ),
    **dict.fromkeys(
        ("async_sleep", "async_connect", "green_schedule", "suspend", "wait_fd_read", "wait_fd_write"), _GREEN
    ),
    **dict.fromkeys(("connect", "is_connected", "send", "recv", "close"), _SOCKET),
    **dict.fromkeys(
        ("metric_inc", "metric_dec", "metric_mul", "metric_div", "metric_get", "metric_set", "metric_set_max",
         "metric_set_min"),
        _METRICS,
    ),
    **dict.fromkeys(
        ("chunked_read", "chunked_read_nb"), 'environ["wsgi.input"].read(size) reads a body as it arrives'
    ),
    **dict.fromkeys(
        ("sendfile", "offload"), "return wsgi.file_wrapper(file) or the header X-Sendfile (--offload)"
    ),
    "add_file_monitor": "--touch-reload reloads when a file changes; watchfiles in a --sidecar does the rest",
    "add_var": "the environ of the request is the application's own: set the key there",
    "alarm": "write to the log: logging.error(...)",
    "cl": 'environ["CONTENT_LENGTH"] has it',
    "request_id": "uwsgibridge ctl status --json counts requests; Nginx's $request_id names one",
    "connection_fd": "the server alone has the connection of a request",
    "disconnect": "return the answer; what is to go on behind it belongs into a thread or a task queue",
    "accepting": "a worker accepts as long as it runs",
    "embedded_data": "importlib.resources reads the files of a package",
    "extract": "open(path) reads a file",
    "parsefile": "packets in files are uWSGI's own",
    "route": "write it in Nginx: location, rewrite, return",
    "set_warning_message": "write to the log: logging.warning(...)",
    "setprocname": "--title names the processes",
}  # fmt: skip

# Attributes that uWSGI has only where its configuration asks for the thing: packages look whether they are there.
ATTRIBUTES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("spool", "send_to_spooler", "spooler", "spoolers", "spooler_jobs", "spooler_pid", "spooler_pids", "spooler_get_task",
         "set_spooler_frequency"),
        _QUEUE,
    ),
    **dict.fromkeys(
        ("queue_get", "queue_set", "queue_last", "queue_push", "queue_pull", "queue_pop", "queue_slot",
         "queue_pull_slot"),
        _QUEUE,
    ),
    **dict.fromkeys(("lord_scroll", "scrolls"), "Nginx's upstream names each server"),
    "mule_msg_hook": _MESSAGE,
    "start_response": "the server calls the application with it, as the second argument",
    "SymbolsImporter": "files belong into a package, which importlib.resources reads",
    "ZipImporter": "zipimport of the standard library does that",
    "SymbolsZipImporter": "zipimport of the standard library does that",
}  # fmt: skip
_FAMILIES: Final = {"sharedarea_": _MEMORY, "snmp_": _METRICS}

# Decorators of `uwsgidecorators`.
DECORATORS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("spool", "spoolraw", "spoolforever", "spool_decorate"), _QUEUE),
    **dict.fromkeys(("mulefunc", "mule", "muleloop", "mulemsg", "farm"), _MESSAGE),
    "signal": _SIGNAL,
    "rpc": _RPC,
    "erlang": _MESSAGE,
    "filemon": FUNCTIONS["add_file_monitor"],
}


def refuse(module: str, name: str, instead: str) -> NoReturn:
    """Refuse a call.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(f"{module}.{name} is not served by uwsgibridge: {instead}")


def refusing(module: str, name: str, instead: str) -> Callable[..., Any]:
    """Make a function that refuses each call."""

    def function(*_arguments: object, **_named: object) -> NoReturn:
        refuse(module, name, instead)

    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    return function


def missing_attribute(name: str) -> AttributeError:
    """Make the error of a look for an attribute that is not there."""
    instead = ATTRIBUTES.get(name) or next(
        (it for beginning, it in _FAMILIES.items() if name.startswith(beginning)), ""
    )
    text = f"module 'uwsgi' has no attribute {name!r}"
    return AttributeError(
        f"{text}: {instead}" if instead else text,
        name=name,
    )
