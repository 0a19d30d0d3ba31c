"""Takes a line of Nginx's error log or access log apart.

A line may stand behind something else, such as the name of a container or what syslog writes first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final, Literal

# nginx's NGX_MAX_ERROR_STR is 2,048; what is longer was written by nobody, or is an access line with long headers.
_LINE_CHARACTERS: Final = 8192
_MESSAGE_CHARACTERS: Final = 2048
# How far into a line what others put before it may reach.
_BEFORE: Final = 200

_LEVELS: Final = "debug|info|notice|warn|error|crit|alert|emerg"

# nginx's ngx_log_error_core(); on standard error at the start there is no time, but its name.
_ERROR: Final = re.compile(
    rf"(?:(?P<time>\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d) |\bnginx: )\[(?P<level>{_LEVELS})\] (?:\d+#\d+: )?(?:\*\d+ )?"
)
# Both forms of the access log: the combined one, and that of the configuration which `uwsgibridge nginx` writes for a container.
_ACCESS: Final = re.compile(
    r"(?:^|(?<=\s))(?P<client>[^\s\[]{1,100}) (?:- \S{1,100} )?\[(?P<time>[^\]]{10,40})\] "
    r'"(?P<request>[^"]*)" (?P<status>\d{3}) (?:\d+|-)(?P<rest>.*)'
)
# nginx's ngx_http_log_error_handler() and ngx_http_upstream_log_error(). There is no space in the target of a request, so that a client
# can't end the field before its end.
_CLIENT: Final = ", client: "
_REQUEST: Final = re.compile(
    r', request: "(?P<method>[A-Za-z_-]{1,64}) (?P<target>[^ ]*) HTTP/[\d.]+"'
)
_UPSTREAM: Final = re.compile(r', upstream: "(?P<upstream>[^"]*)"')
_TIMES: Final = re.compile(r"(?<!\d)(?P<total>\d{1,9}\.\d{3}) \S.*$")
# Of a connection, where a message was copied from there on.
_NUMBER: Final = re.compile(r"^(?:\d+#\d+: )?\*\d+ ")
# nginx's $request_id.
_REQUEST_ID: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class Line:
    """A line, taken apart.

    Attributes:
        log: which log it is of.
        message: of the error log: what happened; of the access log: the status.
        level: of the error log; empty for the access log.
        stamp: the time as it is written; empty without one.
        method: of the request; empty without one.
        target: of the request: path and query, as the client has sent them.
        upstream: the server that was asked; empty where it is not known.
        request_id: of Nginx, if the line has one; else empty.
        seconds: how long the request took; 0 where the line does not say.
    """

    log: Literal["error", "access"]
    message: str
    level: str = ""
    stamp: str = ""
    method: str = ""
    target: str = ""
    upstream: str = ""
    request_id: str = ""
    seconds: float = 0.0


def parse_line(text: str) -> Line | None:
    """Take a line apart.

    Args:
        text: the line, without its end.

    Returns:
        None where it is neither of the error log nor of the access log.
    """
    text = text[:_LINE_CHARACTERS]
    found = _ERROR.search(text, 0, _BEFORE)
    if found is not None:
        return _parse_error(text[found.end() :], found["level"], found["time"] or "")
    found = _ACCESS.search(text)
    if found is None or found.start() > _BEFORE:
        return None
    method, _, target = found["request"].partition(" ")
    rest = found["rest"]
    # Behind the last quote: no client has a word there.
    own = rest.rpartition('"')[2]
    times = _TIMES.search(own)
    request_id = _REQUEST_ID.search(own)
    return Line(
        "access",
        found["status"],
        stamp=found["time"],
        method=method,
        target=target.partition(" ")[0],
        upstream=_upstream_of_access(own),
        request_id=request_id[0] if request_id else "",
        seconds=float(times["total"]) if times else 0.0,
    )


def parse_message(text: str) -> Line:
    """Take a message of the error log that somebody has copied without its time."""
    return _parse_error(_NUMBER.sub("", text.strip()[:_LINE_CHARACTERS]), "error", "")


def time_of(line: Line, zone: tzinfo | None) -> datetime | None:
    """Give the time of a line.

    Args:
        line: the line.
        zone: where the error log was written, which has local times; None is this machine's.

    Returns:
        None where the line has no time, or one in a form of somebody's own.
    """
    return _time(line.log, line.stamp, zone)


@lru_cache(maxsize=1024)  # many lines have the same second
def _time(log: str, stamp: str, zone: tzinfo | None) -> datetime | None:
    try:
        if log == "error":
            local = datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S")  # noqa: DTZ007 - the zone comes
            return (local.replace(tzinfo=zone) if zone else local.astimezone()).astimezone(UTC)
        if stamp[:4].isdecimal():
            return datetime.fromisoformat(stamp).astimezone(UTC)
        return datetime.strptime(stamp, "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _parse_error(rest: str, level: str, stamp: str) -> Line:
    message, _, _ = rest.partition(_CLIENT)
    request = _REQUEST.search(rest)
    upstream = _UPSTREAM.search(rest, request.end() if request else len(message))
    return Line(
        "error",
        message[:_MESSAGE_CHARACTERS],
        level=level,
        stamp=stamp,
        method=request["method"] if request else "",
        target=request["target"] if request else "",
        upstream=upstream["upstream"] if upstream else "",
    )


def _upstream_of_access(own: str) -> str:
    words = own.split()
    # $request_time $upstream_addr $upstream_status $upstream_response_time
    if len(words) >= 4 and _TIMES.match(f"{words[0]} {words[1]}") and words[1] != "-":
        return words[1].rstrip(",")
    return ""
