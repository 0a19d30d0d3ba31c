"""The access log: one line for each request, in Apache's combined form, as JSON, or short.

Nginx writes an access log already, so this one is off by default. It has what only the bridge knows: how long
a request waited for a thread, and how long the application took.
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TextIO, TypeAlias

from uwsgibridge.config.settings import Settings
from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.line_stream import LineStream, standard_error
from uwsgibridge.telemetry.logs import Logger, is_json

# The months' names in the Common Log Format; strftime's %b would follow the process's locale.
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

# A pipe takes a write of up to this size as one piece, whoever else writes to it (PIPE_BUF of Linux).
_MAX_LINE_BYTES: Final = 4096

# How many bytes each text may have in a line that would be too long. The client's own texts are the long ones.
_MOST_BYTES: Final = {
    "client": 64,
    "user": 128,
    "method": 32,
    "path": 1000,
    "protocol": 32,
    "referer": 1000,
    "user_agent": 1000,
}
_CUT_MARK: Final = "..."

# Nginx's status for a request whose client has left before there was an answer.
_CLIENT_LEFT: Final = 499

# Colours of a short line, by the first digit of the status (ECMA-48, "select graphic rendition").
_COLORS: Final = {2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[31m"}
_NO_COLOR: Final = "\x1b[0m"

# The texts of a line by the names above, not escaped yet; None stands for an unknown one.
_Texts: TypeAlias = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Access:
    """One request that is over.

    Attributes:
        request: what was asked.
        status: of the answer; 0 where none was sent.
        body_bytes: of the answer's body.
        complete: whether the whole answer was sent.
        queue_seconds: from accepting the connection to calling the application.
        application_seconds: from calling the application to the end of its answer.
    """

    request: Request
    status: int
    body_bytes: int
    complete: bool
    queue_seconds: float
    application_seconds: float


class AccessSink(Protocol):
    """What records accesses."""

    def write(self, access: Access) -> None:
        """Record an access; from any thread."""


def make_access_log(settings: Settings, logger: Logger) -> AccessSink | None:
    """Make the access log that the settings ask for.

    Returns:
        An access log that goes where the log events go. Without ``--access-log``: at level debug, one
        that makes log events; else None.
    """
    if settings.access_log:
        form = settings.access_log_format
        if form == "auto":
            form = "json" if is_json(settings.log_format) else "combined"
        return AccessLog(form)
    return AccessEvents(logger) if settings.log_level == "debug" else None


class AccessEvents:
    """Makes a log event of each access.

    Args:
        logger: where the events go.
    """

    def __init__(self, logger: Logger) -> None:
        self._log = logger

    def write(self, access: Access) -> None:
        """Log an access; from any thread."""
        self._log.debug(
            "request",
            method=access.request.vars["REQUEST_METHOD"],
            path=access.request.path,
            status=access.status or _CLIENT_LEFT,
            bytes=access.body_bytes,
            complete=access.complete,
            queue_seconds=round(access.queue_seconds, 6),
            application_seconds=round(access.application_seconds, 6),
        )


class AccessLog:
    """Writes a line for each access.

    Args:
        form: ``combined``, ``json`` or ``short``.
        stream: where the lines go; by default the standard error of this process, also where the application
            replaces `sys.stderr` later.
    """

    def __init__(self, form: str, stream: TextIO | None = None) -> None:
        self._line: Callable[[Access, _Texts, str], str]
        write_time: Callable[[float], str]
        self._path: Callable[[Request], str]
        self._escape: Callable[[str], str]
        self._stream = LineStream(stream) if stream is not None else standard_error()
        if form == "json":
            self._line, write_time = _as_json, _json_time
            self._path, self._escape = _decoded_path, json.dumps
        elif form == "short":
            has_colors = self._stream.is_terminal and not os.environ.get("NO_COLOR")
            self._line = _as_short_with_colors if has_colors else _as_short
            write_time = _short_time
            self._path, self._escape = _target, _clean
        else:
            self._line, write_time = _as_combined, _clf_time
            self._path, self._escape = _target, _clean
        self._time = _TimeOfLines(write_time)

    def write(self, access: Access) -> None:
        """Write one line; from any thread."""
        variables = access.request.vars
        get = variables.get
        referer = get("HTTP_REFERER")
        texts = {
            "client": get("REMOTE_ADDR") or None,
            "user": get("REMOTE_USER") or None,
            "method": variables["REQUEST_METHOD"],
            "path": self._path(access.request),
            "protocol": variables["SERVER_PROTOCOL"],
            # Queries are left out, here as in the path, because they may hold tokens.
            "referer": referer and referer.partition("?")[0],
            "user_agent": get("HTTP_USER_AGENT"),
        }
        now = self._time.now()
        line = self._line(access, texts, now)
        if len(line) >= _MAX_LINE_BYTES:
            line = self._line(access, self._cut(texts), now)
        self._stream.write(line + "\n")

    def _cut(self, texts: _Texts) -> _Texts:
        return {
            name: text and _cut(text, _MOST_BYTES[name], self._escape)
            for name, text in texts.items()
        }


class _TimeOfLines:
    """Gives the time as text, which is made once a second: making it takes longer than writing a line.

    Args:
        write: makes the text of a time in seconds.
    """

    def __init__(self, write: Callable[[float], str]) -> None:
        self._write = write
        # Second and text in one tuple, so that another thread never sees one without the other.
        self._last = (-1, "")

    def now(self) -> str:
        """Give the time; from any thread."""
        now = int(time.time())
        second, text = self._last
        if second != now:
            text = self._write(now)
            self._last = (now, text)
        return text


def _as_combined(access: Access, texts: _Texts, now: str) -> str:
    request_line = f"{texts['method']} {texts['path']} {texts['protocol']}"
    line = (
        f"{_word(texts['client'])} - {_word(texts['user'])} "
        f"[{now}] "
        f'"{_clean(request_line)}" {access.status or _CLIENT_LEFT} {access.body_bytes or "-"} '
        f'"{_clean(texts["referer"] or "-")}" "{_clean(texts["user_agent"] or "-")}"'
    )
    total = access.queue_seconds + access.application_seconds
    return (
        f"{line} queue={access.queue_seconds:.6f} app={access.application_seconds:.6f} "
        f"total={total:.6f} worker={os.getpid()}" + ("" if access.complete else " broken")
    )


def _as_short(access: Access, texts: _Texts, now: str, color: str = "", end: str = "") -> str:
    seconds = access.queue_seconds + access.application_seconds
    took = f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
    return (
        f"{now} {color}{access.status or _CLIENT_LEFT}{end} "
        f"{_clean(texts['method'] or '-'):<6} {_clean(texts['path'] or '-')} "
        f"{took} {_size(access.body_bytes)}" + ("" if access.complete else " broken")
    )


def _as_short_with_colors(access: Access, texts: _Texts, now: str) -> str:
    color = _COLORS.get((access.status or _CLIENT_LEFT) // 100, "")
    return _as_short(access, texts, now, color, _NO_COLOR if color else "")


def _size(size_bytes: int) -> str:
    for unit_bytes, unit in ((1_000_000, "MB"), (1_000, "kB")):
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:.1f} {unit}"
    return f"{size_bytes} B"


def _as_json(access: Access, texts: _Texts, now: str) -> str:
    return json.dumps(
        {
            "event": "access",
            "timestamp": now,
            "client": texts["client"],
            "user": texts["user"],
            "method": texts["method"],
            "path": texts["path"],
            "protocol": texts["protocol"],
            "status": access.status or _CLIENT_LEFT,
            "bytes": access.body_bytes,
            "complete": access.complete,
            "referer": texts["referer"],
            "user_agent": texts["user_agent"],
            "queue_seconds": round(access.queue_seconds, 6),
            "application_seconds": round(access.application_seconds, 6),
            "total_seconds": round(access.queue_seconds + access.application_seconds, 6),
            "worker": os.getpid(),
        }
    )


def _target(request: Request) -> str:
    """Give the path as the client wrote it; Apache logs that, too."""
    variables = request.vars
    uri = variables.get("REQUEST_URI", "").partition("?")[0]
    return uri or variables["SCRIPT_NAME"] + variables["PATH_INFO"]


def _decoded_path(request: Request) -> str:
    return request.path


def _cut(text: str, most_bytes: int, escape: Callable[[str], str]) -> str:
    """Shorten a text so that it has no more than so many bytes when it is escaped; mark the cut."""
    start = text[:most_bytes]
    if len(start) == len(text) and len(escape(text)) <= most_bytes:
        return text
    room = most_bytes - len(_CUT_MARK)
    ends = range(len(start) + 1)
    return (
        start[: bisect_right(ends, room, key=lambda end: len(escape(start[:end]))) - 1] + _CUT_MARK
    )


def _short_time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _json_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _clf_time(seconds: float) -> str:
    now = time.localtime(seconds)
    offset = now.tm_gmtoff // 60
    sign = "-" if offset < 0 else "+"
    return (
        f"{now.tm_mday:02}/{_MONTHS[now.tm_mon - 1]}/{now.tm_year}:"
        f"{now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02} "
        f"{sign}{abs(offset) // 60:02}{abs(offset) % 60:02}"
    )


def _word(text: str | None) -> str:
    """Escape a value of a field that has no quotes around it."""
    return _clean(text).replace(" ", "\\x20") if text else "-"


def _clean(text: str) -> str:
    """Escape a client's bytes that would end the field or the line (as Apache's mod_log_config does)."""
    # Most texts need no escape, and this look takes half the time of escaping.
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
