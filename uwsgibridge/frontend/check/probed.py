"""Judges what a probe has seen: where the running Nginx does something else than its file says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from uwsgibridge.frontend.check.finding import Bridge, Finding, Severity
from uwsgibridge.frontend.check.locations import find_location, find_named
from uwsgibridge.frontend.check.reading import Directive
from uwsgibridge.frontend.check.rules.params import params_of
from uwsgibridge.frontend.check.terms import parse_size
from uwsgibridge.frontend.check.tree import Level, Tree, Way

if TYPE_CHECKING:
    from uwsgibridge.frontend.check.probe import Observed

PROBE: Final = "probe"
PROBE_MEANS: Final = (
    "What a probe (`--probe URL`) has seen differs from the file, or from the bridge's options."
)

RELOAD: Final = "nginx -s reload  # after nginx -t"

# Vars that the bridge itself changes or fills in, so that they tell nothing of Nginx.
_OWN: Final = frozenset({"SCRIPT_NAME", "SERVER_NAME", "PATH_INFO"})

# Nginx's default, of client_max_body_size.
_DEFAULT_BODY_BYTES: Final = 1024 * 1024


def find_way(tree: Tree, url: str) -> Way | None:
    """Give the way that a URL takes, as far as the file says; None where none of its servers leads it to an application.

    Nginx takes a server that listens on the port, and of these the one with the host's name, or else the default one. Where no
    server listens on the port, something in front of Nginx has another one, and the name decides.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    servers = sorted(
        tree.ways_of,
        key=lambda it: (
            not _listens_on(it, port),
            not _has_name(it, parts.hostname or ""),
            not any("default_server" in listen.args for listen in it.have("listen")),
        ),
    )
    for server in servers:
        place = find_location(server, unquote(parts.path or "/")) or server
        way = _way_at(tree, server, place)
        if way is not None:
            return way
    return None


def _way_at(tree: Tree, server: Level, place: Level) -> Way | None:
    """Give the way of a location, or of the named one to which its ``try_files`` leads where there is no file."""
    # One within an `if` is taken by some requests alone.
    ways = sorted(tree.ways_of[server], key=lambda it: it.level.kind == "if")
    found = next((it for it in ways if it.location is place), None)
    if found is not None:
        return found
    for directive in place.have("try_files"):
        named = find_named(server, directive.args[-1]) if directive.args else None
        if named is not None:
            return next((it for it in ways if it.location is named), None)
    return None


def _has_name(server: Level, host: str) -> bool:
    return any(host in it.args for it in server.have("server_name"))


def _listens_on(server: Level, port: int) -> bool:
    listens = server.have("listen")
    return any(_port_of(it.value) == port for it in listens) if listens else port == 80


def _port_of(address: str) -> int | None:
    """Give the port of a ``listen``: 80 where it is an address alone; None for a unix socket."""
    if address.startswith("unix:"):
        return None
    host, _, port = address.rpartition(":")
    if address.isdigit():
        return int(address)
    return int(port) if host and port.isdigit() else 80


def differences(observed: Observed, way: Way, bridge: Bridge) -> tuple[Finding, ...]:
    """Say where a probe has seen something else than the file says of the way that it took.

    Args:
        observed: what it has seen.
        way: that the file has for its URL.
        bridge: the options in force.
    """
    found = [*_of_params(observed, way), *_of_buffers(observed, way, bridge)]
    return tuple(
        Finding(PROBE, severity, at.file, at.line, reason, write)
        for severity, at, reason, write in found
    )


_Difference = tuple[Severity, Directive, str, str]


def _of_params(observed: Observed, way: Way) -> Iterator[_Difference]:
    params = params_of(way)
    for name, param in params.items():
        value = param.args[1]
        if name in _OWN or name.startswith("HTTP_") or "if_not_empty" in param.args[2:]:
            continue
        arrived = observed.variables.get(name)
        if arrived is None:
            reason = f"{name} has not arrived: the running Nginx has another configuration"
            yield Severity.ERROR, param, reason, RELOAD
        elif "$" not in value and arrived != value:
            reason = (
                f"{name} has arrived as {arrived!r}: the running Nginx has another configuration"
            )
            yield Severity.ERROR, param, reason, RELOAD
    for name in sorted(observed.params.keys() - params.keys() - _OWN):
        # The bridge fills these in where they are missing.
        if name not in {"QUERY_STRING", "REQUEST_METHOD", "SERVER_PROTOCOL", "SERVER_PORT"}:
            reason = f"{name} has arrived, which the file does not send here: the running Nginx has another configuration"
            yield Severity.WARNING, way.uwsgi_pass, reason, RELOAD


def _of_buffers(observed: Observed, way: Way, bridge: Bridge) -> Iterator[_Difference]:
    for name, what, is_on in (
        ("uwsgi_buffering", "answers are", observed.is_response_buffered),
        ("uwsgi_request_buffering", "requests are", observed.is_request_buffered),
    ):
        directive = way.level.one(name)
        if is_on is not None and (directive is None or directive.value == "on") != is_on:
            reason = f"{what} {'' if is_on else 'not '}held back until they are whole: the running Nginx has another {name}"
            yield Severity.WARNING, directive or way.uwsgi_pass, reason, RELOAD
    directive = way.level.one("underscores_in_headers")
    if (directive is not None and directive.value == "on") != observed.passes_underscores:
        passed = "passed on" if observed.passes_underscores else "dropped"
        reason = f"headers with underscores are {passed}: the running Nginx has another underscores_in_headers"
        yield Severity.WARNING, directive or way.uwsgi_pass, reason, RELOAD
    if observed.lets_body_in is not None:
        directive = way.level.one("client_max_body_size")
        most = _DEFAULT_BODY_BYTES if directive is None else parse_size(directive.value)
        if most is not None and (not most or observed.body_bytes <= most) != observed.lets_body_in:
            done = "let in" if observed.lets_body_in else "refused"
            reason = (
                f"a body of {observed.body_bytes} bytes (--max-body-bytes) is {done}: the running Nginx has another "
                "client_max_body_size"
            )
            yield Severity.WARNING, directive or way.uwsgi_pass, reason, RELOAD
    if observed.passes_head is False:
        bytes_ = bridge.settings.frontend_buffer_bytes
        directive = way.level.one("uwsgi_buffer_size")
        reason = f"an answer whose head has {bytes_} bytes (--frontend-buffer-bytes) is a 502"
        write = f"uwsgi_buffer_size {-(-bytes_ // 1024)}k;  # and {RELOAD}"
        yield Severity.ERROR, directive or way.uwsgi_pass, reason, write


def probe_as_text(observed: Observed) -> str:
    """Say to a person what a probe has seen, in a few lines."""
    lines = [f"{observed.url}: worker {observed.pid} got:"]
    lines += [f"    {name}={value}" for name, value in sorted(observed.variables.items())]
    for what, is_buffered in (
        ("answers", observed.is_response_buffered),
        ("requests", observed.is_request_buffered),
    ):
        if is_buffered is not None:
            lines.append(f"    {what} are {'' if is_buffered else 'not '}buffered")
    if observed.passes_head is not None:
        passes = "passes" if observed.passes_head else "does not pass"
        lines.append(
            f"    a head of {observed.head_bytes} bytes (--frontend-buffer-bytes) {passes}"
        )
    if observed.lets_body_in is not None:
        done = "let in" if observed.lets_body_in else "refused by Nginx"
        lines.append(f"    a body of {observed.body_bytes} bytes (--max-body-bytes) is {done}")
    return "\n".join(lines) + "\n"


def probe_as_json(observed: Observed) -> dict[str, Any]:
    """Give what a probe has seen as values that JSON has."""
    return {
        "url": observed.url,
        "pid": observed.pid,
        "vars": dict(observed.variables),
        "is_response_buffered": observed.is_response_buffered,
        "is_request_buffered": observed.is_request_buffered,
        "head_bytes": observed.head_bytes,
        "passes_head": observed.passes_head,
        "body_bytes": observed.body_bytes,
        "lets_body_in": observed.lets_body_in,
    }
