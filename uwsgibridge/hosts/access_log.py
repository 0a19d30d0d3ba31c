"""The access log: one line a request, in Apache's combined form or as JSON, with where time went.

Nginx writes one already, so this is off by default. What only the bridge knows is in it: the time that
a request waited for a thread, and the time in the application.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TextIO

from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.logs import ForgivingStream

# CLF's own names; strftime's %b would follow the process's locale.
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


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


class AccessLog:
    """Writes accesses.

    Args:
        form: ``combined`` or ``json``.
        stream: where to; standard error by default.
    """

    def __init__(self, form: str, stream: TextIO | None = None) -> None:
        self._format: Callable[[Access], str] = _as_json if form == "json" else _as_combined
        self._stream = ForgivingStream(stream if stream is not None else sys.stderr)

    def write(self, access: Access) -> None:
        """Write one line; from any thread."""
        self._stream.write(self._format(access) + "\n")
        self._stream.flush()


def _as_combined(access: Access) -> str:
    variables = access.request.vars
    line = (
        f"{_word(variables.get('REMOTE_ADDR'))} - {_word(variables.get('REMOTE_USER'))} "
        f"[{_clf_time(time.time())}] "
        f'"{_clean(_request_line(variables))}" {access.status or 499} {access.body_bytes or "-"} '
        f'"{_clean(variables.get("HTTP_REFERER") or "-")}" '
        f'"{_clean(variables.get("HTTP_USER_AGENT") or "-")}"'
    )
    total = access.queue_seconds + access.application_seconds
    return (
        f"{line} queue={access.queue_seconds:.6f} app={access.application_seconds:.6f} "
        f"total={total:.6f} worker={os.getpid()}" + ("" if access.complete else " broken")
    )


def _as_json(access: Access) -> str:
    variables = access.request.vars
    return json.dumps(
        {
            "event": "access",
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z",
            "client": variables.get("REMOTE_ADDR") or None,
            "user": variables.get("REMOTE_USER") or None,
            "method": variables["REQUEST_METHOD"],
            "path": access.request.path,
            "protocol": variables["SERVER_PROTOCOL"],
            "status": access.status or None,
            "bytes": access.body_bytes,
            "complete": access.complete,
            "referer": variables.get("HTTP_REFERER"),
            "user_agent": variables.get("HTTP_USER_AGENT"),
            "queue_seconds": round(access.queue_seconds, 6),
            "application_seconds": round(access.application_seconds, 6),
            "total_seconds": round(access.queue_seconds + access.application_seconds, 6),
            "worker": os.getpid(),
        }
    )


def _request_line(variables: Mapping[str, str]) -> str:
    # The query is left out: it is where tokens are.
    path = variables["SCRIPT_NAME"] + variables["PATH_INFO"]
    target = (variables.get("REQUEST_URI") or path).partition("?")[0]
    return f"{variables['REQUEST_METHOD']} {target} {variables['SERVER_PROTOCOL']}"


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
    """Keep a value in its field where no quotes end it."""
    return _clean(text).replace(" ", "\\x20") if text else "-"


def _clean(text: str) -> str:
    """Keep a client's bytes from ending the field or the line (as Apache's mod_log_config does)."""
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
