"""Rules about sizes and times that belong together with the bridge's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from uwsgibridge.frontend.check.finding import Case, Found, Severity, for_server, for_way
from uwsgibridge.frontend.check.reading import Directive
from uwsgibridge.frontend.check.terms import parse_size, parse_time
from uwsgibridge.frontend.check.tree import Level, Way

_DEFAULT_BODY_BYTES: Final = 1024 * 1024
_DEFAULT_TIMEOUT_SECONDS: Final = 60.0
# The vars of a uwsgi packet: their length is a u16.
_PACKET_BYTES: Final = 65_535
_MOST_CONNECT_SECONDS: Final = 75.0


def time_of(way: Way, name: str) -> tuple[float | None, Directive]:
    """Give a timeout that is in force in seconds, and where it is said: at the pass where it is the default."""
    directive = way.level.one(name)
    if directive is None:
        return _DEFAULT_TIMEOUT_SECONDS, way.uwsgi_pass
    return parse_time(" ".join(directive.args)), directive


def seconds(value: float) -> str:
    """Write a time for Nginx."""
    return f"{value:g}s" if value == int(value) else f"{round(value * 1000)}ms"


def _size(value: int) -> str:
    for unit, factor in (("g", 1024**3), ("m", 1024**2), ("k", 1024)):
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)


@for_way(
    "body-limit-crosses",
    Severity.WARNING,
    "`client_max_body_size` is not `--max-body-bytes`: the smaller one refuses, and the other says a wrong thing.",
)
def _body(case: Case, way: Way) -> Iterator[Found]:
    ours = case.bridge.settings.max_body_bytes
    directive = way.level.one("client_max_body_size")
    theirs = _DEFAULT_BODY_BYTES if directive is None else parse_size(directive.value)
    if not ours or theirs is None or theirs == ours:
        return
    at = directive or way.uwsgi_pass
    shown = "no limit" if not theirs else f"{_size(theirs)} ({theirs} bytes)"
    if not theirs or theirs > ours:
        reason = f"Nginx takes bodies of {shown}, and the bridge refuses those over --max-body-bytes {ours}"
    else:
        reason = f"Nginx refuses bodies over {shown}, before --max-body-bytes {ours} allows them"
    yield Found(at, reason, f"client_max_body_size {_size(ours)};")


@for_way(
    "body-limit-none",
    Severity.WARNING,
    "`client_max_body_size 0` while the bridge has no `--max-body-bytes`: any client can fill the disk.",
)
def _no_limit(case: Case, way: Way) -> Iterator[Found]:
    directive = way.level.one("client_max_body_size")
    if (
        directive is not None
        and parse_size(directive.value) == 0
        and not case.bridge.settings.max_body_bytes
    ):
        yield Found(
            directive,
            "neither Nginx nor the bridge has a limit for a body, and Nginx collects it on its disk",
            "client_max_body_size 16m;",
        )


@for_server(
    "headers-over-packet",
    Severity.WARNING,
    "Headers may be larger than a uwsgi packet, 65,535 bytes, or than `--max-vars-bytes`: 500 or 431 instead of 400.",
)
def _headers(case: Case, server: Level) -> Iterator[Found]:
    buffers = server.one("large_client_header_buffers")
    if buffers is None or len(buffers.args) != 2 or not buffers.value.isdecimal():
        return
    each = parse_size(buffers.args[1])
    if each is None:
        return
    most = int(buffers.value) * each
    limit = case.bridge.settings.max_vars_bytes
    if most > limit:
        what = (
            "Nginx answers 500 over the 65535 bytes of a uwsgi packet"
            if limit == _PACKET_BYTES
            else f"the bridge answers 431 over --max-vars-bytes {limit}"
        )
        yield Found(
            buffers,
            f"a client may send {most} bytes of headers, and {what}",
            "large_client_header_buffers 4 8k;",
        )


@for_way(
    "buffer-too-small",
    Severity.WARNING,
    "`uwsgi_buffer_size` is smaller than `--frontend-buffer-bytes`: a head between both is a 502 that is not logged.",
)
def _buffer(case: Case, way: Way) -> Iterator[Found]:
    ours = case.bridge.settings.frontend_buffer_bytes
    directive = way.level.one("uwsgi_buffer_size")
    # Nginx's default is a page of memory; 4 KiB but for a few machines.
    theirs = 4096 if directive is None else parse_size(directive.value)
    if theirs is not None and theirs < ours:
        yield Found(
            directive or way.uwsgi_pass,
            f"a head of an answer over {theirs} bytes is a 502, and the bridge warns of those over "
            f"--frontend-buffer-bytes {ours} only",
            f"uwsgi_buffer_size {_size(ours)};",
        )


@for_way(
    "read-timeout-short",
    Severity.WARNING,
    "`uwsgi_read_timeout` is below `--request-timeout-seconds`: Nginx answers 504 first, and the request goes on.",
)
def _read(case: Case, way: Way) -> Iterator[Found]:
    ours = case.bridge.settings.request_timeout_seconds
    theirs, at = time_of(way, "uwsgi_read_timeout")
    if ours and theirs and theirs <= ours:
        yield Found(
            at,
            f"Nginx gives up after {seconds(theirs)}, and the bridge ends a request after "
            f"--request-timeout-seconds {ours:g}: the client gets Nginx's 504, and the log no reason",
            f"uwsgi_read_timeout {seconds(ours + 5)};",
        )


@for_way(
    "read-timeout-below-ping",
    Severity.WARNING,
    "`uwsgi_read_timeout` is not above `--websocket-ping-seconds`: Nginx ends idle WebSockets between two pings.",
)
def _ping(case: Case, way: Way) -> Iterator[Found]:
    ours = case.bridge.settings.websocket_ping_seconds
    theirs, at = time_of(way, "uwsgi_read_timeout")
    if ours and theirs and theirs <= ours and _may_have_websockets(case, way):
        yield Found(
            at,
            f"an idle WebSocket is ended after {seconds(theirs)}, before the ping of --websocket-ping-seconds {ours:g}",
            f"uwsgi_read_timeout {seconds(max(65.0, 3 * ours))};",
        )


def _may_have_websockets(case: Case, way: Way) -> bool:
    """Whether anybody could open a WebSocket: not with WSGI alone, and not in a location for a few machines."""
    settings = case.bridge.settings
    if settings.interface == "wsgi" and not settings.wsgi_websockets:
        return False
    return not any(directive.args == ("all",) for directive in way.location.have("deny"))


@for_way(
    "websocket-idle",
    Severity.WARNING,
    "A location for WebSockets has a short `uwsgi_read_timeout`, and `--websocket-ping-seconds 0` sends no pings.",
)
def _idle(case: Case, way: Way) -> Iterator[Found]:
    theirs, at = time_of(way, "uwsgi_read_timeout")
    if case.bridge.settings.websocket_ping_seconds or theirs is None or theirs > 300:
        return
    if _is_for_websockets(way):
        yield Found(
            at,
            f"an idle WebSocket is ended after {seconds(theirs)}, since --websocket-ping-seconds 0 sends no pings",
            "uwsgi_read_timeout 1h;",
        )


def _is_for_websockets(way: Way) -> bool:
    words = way.location.path.lower()
    return (
        "websocket" in words or "socket.io" in words or "ws" in words.replace("-", "/").split("/")
    )


@for_way(
    "send-timeout-short",
    Severity.NOTICE,
    "`uwsgi_send_timeout` is below `--body-timeout-seconds`: Nginx gives a slow reader up before the bridge does.",
)
def _send(case: Case, way: Way) -> Iterator[Found]:
    ours = case.bridge.settings.body_timeout_seconds
    theirs, at = time_of(way, "uwsgi_send_timeout")
    if theirs and theirs < min(ours, _DEFAULT_TIMEOUT_SECONDS):
        yield Found(
            at,
            f"an application that reads nothing for {seconds(theirs)} loses its upload, before "
            f"--body-timeout-seconds {ours:g} says so in the log",
            f"uwsgi_send_timeout {seconds(ours + 5)};",
        )


@for_way(
    "connect-timeout-long",
    Severity.NOTICE,
    "`uwsgi_connect_timeout` is over 75 s, which it can't exceed.",
)
def _connect(_case: Case, way: Way) -> Iterator[Found]:
    theirs, at = time_of(way, "uwsgi_connect_timeout")
    if theirs is not None and theirs > _MOST_CONNECT_SECONDS:
        yield Found(
            at,
            f"a connection that is not there after 75 s will not come: {seconds(theirs)} only keeps clients waiting",
            "uwsgi_connect_timeout 5s;",
        )


@for_way(
    "read-timeout-zero",
    Severity.ERROR,
    "`uwsgi_read_timeout 0`, which is no time at all: an answer that is not there at once is a 504.",
)
def _zero(_case: Case, way: Way) -> Iterator[Found]:
    theirs, at = time_of(way, "uwsgi_read_timeout")
    if theirs == 0:
        yield Found(
            at,
            "0 is no time at all, and not endless: an answer that is not there at once is a 504",
            "uwsgi_read_timeout 65s;",
        )


@for_server(
    "underscores",
    Severity.WARNING,
    "`underscores_in_headers on`: a client's X_User and a balancer's X-User become the same var, HTTP_X_USER.",
)
def _underscores(_case: Case, server: Level) -> Iterator[Found]:
    if server.is_on("underscores_in_headers", default=False):
        directive = server.one("underscores_in_headers")
        assert directive is not None
        yield Found(
            directive,
            "a client's X_User and a balancer's X-User become the same var, HTTP_X_USER",
            "underscores_in_headers off;",
        )


@for_server(
    "invalid-headers",
    Severity.WARNING,
    "`ignore_invalid_headers off`: names with other characters become vars too, underscores among them.",
)
def _invalid(_case: Case, server: Level) -> Iterator[Found]:
    if not server.is_on("ignore_invalid_headers", default=True):
        directive = server.one("ignore_invalid_headers")
        assert directive is not None
        yield Found(
            directive,
            "names with any character become vars, and X_User the same one as X-User",
            "ignore_invalid_headers on;",
        )


@for_way(
    "client-abort-ignored",
    Severity.NOTICE,
    "`uwsgi_ignore_client_abort on` without `--run-abandoned`: each request of a client that has left is still run.",
)
def _abort(case: Case, way: Way) -> Iterator[Found]:
    if (
        way.level.is_on("uwsgi_ignore_client_abort", default=False)
        and not case.bridge.settings.run_abandoned
    ):
        directive = way.level.one("uwsgi_ignore_client_abort")
        assert directive is not None
        yield Found(
            directive,
            "the bridge never learns that a client has left, and runs requests that nobody waits for",
            "uwsgi_ignore_client_abort off;",
        )
