"""Rules about what Nginx collects, and what it passes on at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from uwsgibridge.frontend.check.finding import REMOVE, Case, Found, Severity, for_way
from uwsgibridge.frontend.check.locations import find_location, find_named
from uwsgibridge.frontend.check.rules.params import params_of
from uwsgibridge.frontend.check.tree import Level, Way

# A location whose path says that it is for streams.
_STREAM: Final = re.compile(
    r"(?:^|[/_.^(|-])(?:sse|ws|wss|websockets?|socket\.io|streams?|streaming|events?|eventsource|event-stream|live|"
    r"notifications|push|channels|chat|mcp|messages|updates|feed)(?:$|[/_.)|?-])",
    re.IGNORECASE,
)
_UPLOAD: Final = re.compile(
    r"upload|import|files?\b|media|webdav|\bdav\b|git|registry|v2/", re.IGNORECASE
)


@for_way(
    "buffering-off",
    Severity.WARNING,
    "`uwsgi_buffering off` without need: a slow client holds a thread. Streams have it off by themselves.",
)
def _off(_case: Case, way: Way) -> Iterator[Found]:
    if way.level.is_on("uwsgi_buffering", default=True) or _STREAM.search(_path(way)):
        return
    directive = way.level.one("uwsgi_buffering")
    assert directive is not None
    yield Found(
        directive,
        "a slow client holds a thread of the application; for streams the bridge switches buffering off by itself, "
        "with X-Accel-Buffering",
        "uwsgi_buffering on;",
    )


def _path(way: Way) -> str:
    return "" if way.location.kind != "location" else way.location.path.replace("\\", "")


@for_way(
    "accel-buffering-ignored",
    Severity.WARNING,
    "`uwsgi_ignore_headers X-Accel-Buffering`: event streams and other streams arrive in one piece, at their end.",
)
def _ignored(_case: Case, way: Way) -> Iterator[Found]:
    if not way.level.is_on("uwsgi_buffering", default=True):
        return
    for directive in way.level.all("uwsgi_ignore_headers"):
        if "x-accel-buffering" in map(str.lower, directive.args):
            rest = [arg for arg in directive.args if arg.lower() != "x-accel-buffering"]
            yield Found(
                directive,
                "an event stream arrives in one piece, at its end",
                f"uwsgi_ignore_headers {' '.join(rest)};" if rest else REMOVE,
            )


@for_way(
    "request-buffering-off",
    Severity.NOTICE,
    "`uwsgi_request_buffering off`: a slow upload holds a thread, and no other server of the upstream is tried.",
)
def _request(_case: Case, way: Way) -> Iterator[Found]:
    if way.level.is_on("uwsgi_request_buffering", default=True) or _UPLOAD.search(_path(way)):
        return
    directive = way.level.one("uwsgi_request_buffering")
    assert directive is not None
    yield Found(
        directive,
        "a slow upload holds a thread of the application as long as it takes",
        "uwsgi_request_buffering on;",
    )


@for_way(
    "websocket-params",
    Severity.NOTICE,
    "HTTP_UPGRADE or HTTP_CONNECTION is set for WebSockets: Nginx sends both as they came, and needs nothing.",
)
def _websocket(_case: Case, way: Way) -> Iterator[Found]:
    for name in ("HTTP_UPGRADE", "HTTP_CONNECTION"):
        param = params_of(way).get(name)
        if param is None or not param.args[1]:
            continue
        yield Found(
            param,
            f"Nginx sends {name} as it came; set here, each plain request is an upgrade too",
            REMOVE,
        )


@for_way(
    "auth-request-body",
    Severity.ERROR,
    "A location of `auth_request` is told the CONTENT_LENGTH of a body that the subrequest does not have.",
)
def _auth(_case: Case, way: Way) -> Iterator[Found]:
    if not any(way.location is location for location in _asked_by_auth_request(way.server)):
        return
    length = params_of(way).get("CONTENT_LENGTH")
    if length is not None and length.args[1] != "":
        yield Found(
            way.uwsgi_pass,
            "the subrequest of auth_request has no body, whatever the request has: the application waits for one",
            'uwsgi_param CONTENT_LENGTH "";',
        )


@for_way(
    "body-not-passed",
    Severity.ERROR,
    "`uwsgi_pass_request_body off` while CONTENT_LENGTH is sent: the application waits for a body that never comes.",
)
def _no_body(_case: Case, way: Way) -> Iterator[Found]:
    if way.level.is_on("uwsgi_pass_request_body", default=True):
        return
    length = params_of(way).get("CONTENT_LENGTH")
    if length is None or length.args[1] == "":
        return
    if any(way.location is location for location in _asked_by_auth_request(way.server)):
        return  # auth-request-body says it
    directive = way.level.one("uwsgi_pass_request_body")
    assert directive is not None
    yield Found(
        directive,
        "the application is told the length of a body that never comes",
        'uwsgi_param CONTENT_LENGTH "";',
    )


def _asked_by_auth_request(server: Level) -> Iterator[Level]:
    root = next(level for level in server.around() if level.parent is None)
    for level in (*server.within(), *(it for it in server.around() if it is not root)):
        for directive in level.have("auth_request"):
            if directive.value.startswith("/"):
                location = find_location(server, directive.value)
            else:
                location = find_named(server, directive.value)
            if location is not None:
                yield location
