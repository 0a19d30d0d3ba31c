"""The access log: one line for each request, in Apache's combined form, as JSON, or short.

Nginx writes an access log already, so this one is off by default. It has what only the bridge knows: how long
a request waited for a thread, and how long the application took.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, TextIO, TypeAlias

from uwsgibridge.fast import accelerator
from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.access import CLIENT_LEFT, Access, SentWriter
from uwsgibridge.telemetry.access_text import MAX_LINE_BYTES, TimeOfLines, clf_time, cut, escape
from uwsgibridge.telemetry.line_stream import LineStream, standard_error
from uwsgibridge.telemetry.logs import EventLogger, Logger, timestamp
from uwsgibridge.telemetry.request_ids import fields_of, request_ids
from uwsgibridge.telemetry.tracing import Traces, trace_of

# Gives a text as JSON has it.
_quote: Final = json.encoder.encode_basestring_ascii

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

# Colours of a short line, by the first digit of the status (ECMA-48, "select graphic rendition").
_COLORS: Final = {2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[31m"}
_NO_COLOR: Final = "\x1b[0m"

# The texts of a line by the names above, not escaped yet; None stands for an unknown one.
_Texts: TypeAlias = Mapping[str, str | None]


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
            **fields_of(access.request),
            status=access.status or CLIENT_LEFT,
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
        has_variables: whether an application may set variables, which JSON has as a field of its own.
    """

    def __init__(
        self,
        form: str,
        stream: TextIO | LineStream | None = None,
        *,
        has_variables: bool = False,
    ) -> None:
        self._line: Callable[[Access, _Texts, str], str]
        write_time: Callable[[float], str]
        self._path: Callable[[Request], str]
        self._escape: Callable[[str], str]
        self._stream = as_line_stream(stream)
        self._is_plain_json = form == "json" and not has_variables
        if form == "json":
            self._line, write_time = _as_json, _json_time
            if has_variables:
                from uwsgibridge.telemetry.access_variables import with_variables  # few have any

                self._line = with_variables(_as_json)
            self._path, self._escape = _decoded_path, json.dumps
        elif form == "short":
            has_colors = self._stream.is_terminal and not os.environ.get("NO_COLOR")
            self._line = _as_short_with_colors if has_colors else _as_short
            write_time = _short_time
            self._path, self._escape = _target, escape
        else:
            self._line, write_time = _as_combined, clf_time
            self._path, self._escape = _target, escape
        self._time = TimeOfLines(write_time)

    def write(self, access: Access) -> None:
        """Write one line; from any thread."""
        self._stream.write(self.line(access) + "\n")

    @property
    def sent_writer(self) -> SentWriter | None:
        """What writes the line of an answer that the accelerator has sent; None where the line needs more of the answer."""
        if not self._is_plain_json or accelerator is None:
            return None
        return accelerator.SentLine(
            tuple(request_ids.sources),
            request_ids.of,
            Traces,
            self._time.now,
            self._stream.own_buffer,
            self._stream.write_ascii,
            self._write_sent,
        )

    def _write_sent(
        self, request: Request, status: int, body_bytes: int, accepted_at: float, started_at: float
    ) -> None:
        queue_seconds, seconds = started_at - accepted_at, monotonic() - started_at
        self.write(Access(request, status, body_bytes, True, queue_seconds, seconds))

    def line(self, access: Access) -> str:
        """Make one line, without its end."""
        if self._is_plain_json and (made := _plain_json(access, self._time.now())) is not None:
            return made
        texts = _texts(access, self._path)
        now = self._time.now()
        line = self._line(access, texts, now)
        if len(line) >= MAX_LINE_BYTES:
            line = self._line(access, self._cut(texts), now)
        return line

    def _cut(self, texts: _Texts) -> _Texts:
        return {
            name: text and cut(text, _MOST_BYTES[name], self._escape)
            for name, text in texts.items()
        }


class AccessFields:
    """Tells each access as an event with fields, to a log that has a form of its own for fields.

    Args:
        logger: tells them, whatever its level is.
    """

    def __init__(self, logger: EventLogger) -> None:
        self._log = logger

    def write(self, access: Access) -> None:
        """Tell an access; from any thread."""
        said = {"event": "access", "level": "info", "timestamp": timestamp(datetime.now(UTC))}
        self._log.tell(access_fields(access), said)


def access_fields(access: Access) -> dict[str, Any]:
    """Give the fields of an access, as those of JSON."""
    return _fields(access, _texts(access, _decoded_path))


def as_line_stream(stream: TextIO | LineStream | None) -> LineStream:
    """Give what writes whole lines to a stream; None stands for the standard error of this process."""
    if stream is None:
        return standard_error()
    return stream if isinstance(stream, LineStream) else LineStream(stream)


def _texts(access: Access, path: Callable[[Request], str]) -> _Texts:
    variables = access.request.vars
    get = variables.get
    referer = get("HTTP_REFERER")
    return {
        "client": get("REMOTE_ADDR") or None,
        "user": get("REMOTE_USER") or None,
        "method": variables["REQUEST_METHOD"],
        "path": path(access.request),
        "protocol": variables["SERVER_PROTOCOL"],
        # Queries are left out, here as in the path, because they may hold tokens.
        "referer": referer and referer.partition("?")[0],
        "user_agent": get("HTTP_USER_AGENT"),
    }


def _as_combined(access: Access, texts: _Texts, now: str) -> str:
    request_line = f"{texts['method']} {texts['path']} {texts['protocol']}"
    line = (
        f"{_word(texts['client'])} - {_word(texts['user'])} "
        f"[{now}] "
        f'"{escape(request_line)}" {access.status or CLIENT_LEFT} {access.body_bytes or "-"} '
        f'"{escape(texts["referer"] or "-")}" "{escape(texts["user_agent"] or "-")}"'
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
        f"{now} {color}{access.status or CLIENT_LEFT}{end} "
        f"{escape(texts['method'] or '-'):<6} {escape(texts['path'] or '-')} "
        f"{took} {_size(access.body_bytes)}" + ("" if access.complete else " broken")
    )


def _as_short_with_colors(access: Access, texts: _Texts, now: str) -> str:
    color = _COLORS.get((access.status or CLIENT_LEFT) // 100, "")
    return _as_short(access, texts, now, color, _NO_COLOR if color else "")


def _size(size_bytes: int) -> str:
    for unit_bytes, unit in ((1_000_000, "MB"), (1_000, "kB")):
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:.1f} {unit}"
    return f"{size_bytes} B"


def _as_json(access: Access, texts: _Texts, now: str) -> str:
    # Each request pays for this: it is a third of what `json.dumps` takes for a dict of `_fields`.
    queue_seconds, seconds = access.queue_seconds, access.application_seconds
    more = "".join([f', "{name}": {_quote(it)}' for name, it in fields_of(access.request).items()])
    return (
        f'{{"event": "access", "timestamp": "{now}", "client": {_json(texts["client"])}, '
        f'"user": {_json(texts["user"])}, "method": {_json(texts["method"])}, '
        f'"path": {_json(texts["path"])}, "protocol": {_json(texts["protocol"])}, '
        f'"status": {access.status or CLIENT_LEFT}, "bytes": {access.body_bytes}, '
        f'"complete": {"true" if access.complete else "false"}, '
        f'"referer": {_json(texts["referer"])}, "user_agent": {_json(texts["user_agent"])}, '
        f'"queue_seconds": {queue_seconds:.6f}, "application_seconds": {seconds:.6f}, '
        f'"total_seconds": {queue_seconds + seconds:.6f}, "worker": {os.getpid()}{more}}}'
    )


def _plain_json(access: Access, now: str) -> str | None:
    """Make the same line by the accelerator; None where it leaves that to `_as_json`."""
    request = access.request
    if accelerator is None or trace_of(request) is not None:
        return None
    return accelerator.access_line(
        request.vars,
        now,
        access.status or CLIENT_LEFT,
        access.body_bytes,
        access.complete,
        access.queue_seconds,
        access.application_seconds,
        os.getpid(),
        request_ids.of(request),
    )


def _json(text: str | None) -> str:
    return "null" if text is None else _quote(text)


def _fields(access: Access, texts: _Texts) -> dict[str, Any]:
    return {
        "client": texts["client"],
        "user": texts["user"],
        "method": texts["method"],
        "path": texts["path"],
        "protocol": texts["protocol"],
        "status": access.status or CLIENT_LEFT,
        "bytes": access.body_bytes,
        "complete": access.complete,
        "referer": texts["referer"],
        "user_agent": texts["user_agent"],
        "queue_seconds": round(access.queue_seconds, 6),
        "application_seconds": round(access.application_seconds, 6),
        "total_seconds": round(access.queue_seconds + access.application_seconds, 6),
        "worker": os.getpid(),
        **fields_of(access.request),
    }


def _target(request: Request) -> str:
    """Give the path as the client wrote it; Apache logs that, too."""
    variables = request.vars
    uri = variables.get("REQUEST_URI", "").partition("?")[0]
    return uri or variables["SCRIPT_NAME"] + variables["PATH_INFO"]


def _decoded_path(request: Request) -> str:
    return request.path


def _short_time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _json_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _word(text: str | None) -> str:
    """Escape a value of a field that has no quotes around it."""
    return escape(text).replace(" ", "\\x20") if text else "-"
