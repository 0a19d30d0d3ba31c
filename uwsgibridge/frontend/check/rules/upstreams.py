"""Rules about whom a ``uwsgi_pass`` leads to."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from uwsgibridge.config.address import (
    AddressError,
    TcpAddress,
    UnixAddress,
    parse_address,
)
from uwsgibridge.frontend.check.finding import REMOVE, Case, Found, Severity, for_case, for_way
from uwsgibridge.frontend.check.reading import Directive
from uwsgibridge.frontend.check.terms import Peer, parse_peer
from uwsgibridge.frontend.check.tree import Way, resolve_sets

_TEMPORARY: Final = ("/tmp/", "/var/tmp/")  # noqa: S108 - what is looked for, no file of ours
_RESOLVE_SINCE: Final = (1, 27, 3)
_METHODS: Final = frozenset({"least_conn", "least_time", "ip_hash", "hash", "random"})


@for_way(
    "public-address",
    Severity.WARNING,
    "`uwsgi_pass` leads to a public address: uwsgi is not encrypted, and whoever reaches that port is believed.",
)
def _public(_case: Case, way: Way) -> Iterator[Found]:
    for at, peer in way.peers:
        if peer.ip is not None and peer.ip.is_global and not peer.is_tls:
            yield Found(
                at,
                f"{peer.host} is a public address: uwsgi is not encrypted, and who reaches that port says who a client is",
                _instead(at, "unix:/run/app.sock"),
            )


def _instead(at: Directive, address: str) -> str:
    return f"{' '.join([at.name, address, *at.args[1:]])};"


@for_way(
    "address-of-all",
    Severity.WARNING,
    "`uwsgi_pass` leads to 0.0.0.0 or [::], which is where to listen and not whom to ask.",
)
def _all(_case: Case, way: Way) -> Iterator[Found]:
    for at, peer in way.peers:
        if peer.ip is not None and peer.ip.is_unspecified:
            yield Found(
                at,
                f"{peer.host} is where a server listens, and no address to connect to on each system",
                _instead(at, f"127.0.0.1:{peer.port or 3031}"),
            )


@for_way(
    "socket-world-writable",
    Severity.WARNING,
    "The unix socket, as it is on this machine or by `--socket-mode`, lets every user connect, and say who a client is.",
)
def _world(case: Case, way: Way) -> Iterator[Found]:
    for at, peer in way.peers:
        if not peer.path:
            continue
        mode = case.socket_mode_of(peer.path)
        if mode is not None and mode & stat.S_IWOTH:
            yield Found(
                at,
                f"every user of this machine may connect to {peer.path} (mode {mode & 0o777:04o}), and say who a client is",
                "--socket-mode 0660 --socket-owner :www-data",
            )
        elif (
            mode is None
            and int(case.bridge.settings.socket_mode, 8) & stat.S_IWOTH
            and "socket_mode" in case.bridge.given
        ):
            yield Found(
                at,
                f"--socket-mode {case.bridge.settings.socket_mode} lets every user of this machine connect, and say who a client is",
                "--socket-mode 0660 --socket-owner :www-data",
            )


@for_way(
    "socket-in-tmp",
    Severity.WARNING,
    "The unix socket is in a directory for temporary files: with PrivateTmp each service has one of its own.",
)
def _temporary(_case: Case, way: Way) -> Iterator[Found]:
    for at, peer in way.peers:
        if peer.path.startswith(_TEMPORARY):
            name = peer.path.rsplit("/", 1)[1]
            yield Found(
                at,
                f"with systemd's PrivateTmp, Nginx has another {peer.path.rsplit('/', 1)[0]} than the application, and "
                "any user can take the name first",
                _instead(at, f"unix:/run/{name}"),
            )


@for_way(
    "socket-relative",
    Severity.ERROR,
    "The path of the unix socket does not begin with a slash: it is relative to where Nginx was started.",
)
def _relative(_case: Case, way: Way) -> Iterator[Found]:
    for at, peer in way.peers:
        if peer.path and not peer.path.startswith(("/", "$")):
            yield Found(
                at,
                f"unix:{peer.path} is relative to the directory that Nginx happens to be started in",
                _instead(at, f"unix:/run/{peer.path.rsplit('/', 1)[-1]}"),
            )


@for_way(
    "name-resolved-once",
    Severity.NOTICE,
    "A name, such as that of a container, is looked up when Nginx starts, and never again.",
)
def _once(case: Case, way: Way) -> Iterator[Found]:
    for at, peer in way.peers:
        if not peer.is_name or "resolve" in at.args or (way.has_variable and way.upstream is None):
            continue
        if way.upstream is None and not peer.port:
            continue  # an upstream of another file: Nginx takes no name without a port
        resolver = "127.0.0.11" if "." not in peer.host else "DNS_SERVER"
        if way.upstream is not None and not case.is_before(*_RESOLVE_SINCE):
            write = f"server {peer.text} resolve;  # with zone NAME 64k; in the upstream and resolver {resolver}; around it"
        else:
            write = f"resolver {resolver} valid=5s; set $app {peer.text}; uwsgi_pass $app;"
        yield Found(
            at,
            f"{peer.host} is looked up once, when Nginx starts: after a change of its address each request is a 502",
            write,
        )


@for_way(
    "resolver-missing",
    Severity.ERROR,
    "A name has to be looked up while Nginx runs, since it is in a variable or has `resolve`, and there is no `resolver`.",
)
def _resolver(_case: Case, way: Way) -> Iterator[Found]:
    if way.level.one("resolver") is not None or way.level.may_hide("resolver"):
        return
    for at, peer in way.peers:
        is_looked_up = way.has_variable and way.upstream is None
        if way.upstream is not None and "resolve" in at.args:
            is_looked_up = not way.upstream.have("resolver")
        if peer.host and peer.ip is None and "$" not in peer.host and is_looked_up:
            yield Found(
                at,
                f"{peer.host} is looked up while Nginx runs, and there is no resolver to ask: each request is a 502",
                "resolver 127.0.0.11 valid=5s;",
            )


@for_way(
    "resolve-unknown",
    Severity.ERROR,
    "`resolve` in an upstream, which Nginx before 1.27.3 does not have.",
)
def _resolve(case: Case, way: Way) -> Iterator[Found]:
    for at, peer in way.peers:
        if "resolve" in at.args and case.is_before(*_RESOLVE_SINCE):
            yield Found(
                at,
                "Nginx has resolve from 1.27.3 on; before, a name in a variable is looked up again",
                f"resolver 127.0.0.11 valid=5s; set $app {peer.text}; uwsgi_pass $app;",
            )


@for_way(
    "upstream-port",
    Severity.ERROR,
    "A `server` of the upstream has no port, and so port 80, where no uwsgi is spoken.",
)
def _port(_case: Case, way: Way) -> Iterator[Found]:
    for at, peer in way.peers:
        if peer.host and not peer.port and way.upstream is not None:
            host = f"[{peer.host}]" if ":" in peer.host else peer.host
            rest = "".join(f" {arg}" for arg in at.args[1:])
            yield Found(
                at,
                f"{peer.host} has no port, and so port 80, which speaks HTTP and not uwsgi",
                f"server {host}:3031{rest};",
            )


@for_way(
    "sticky-before-method",
    Severity.ERROR,
    "`sticky` stands before `least_conn` or another method of its upstream, which takes its place: no client is kept.",
)
def _sticky(_case: Case, way: Way) -> Iterator[Found]:
    if way.upstream is None:
        return
    lines = way.upstream.directive.block or ()
    for number, directive in enumerate(lines):
        method = next((it for it in lines[number:] if it.name in _METHODS), None)
        if directive.name == "sticky" and method is not None:
            yield Found(
                directive,
                f"{method.name} stands behind sticky and takes its place: no cookie is set, and a client is kept at no server",
                f"{' '.join([method.name, *method.args])}; {' '.join(['sticky', *directive.args])};",
            )


@for_case(
    "keepalive",
    Severity.NOTICE,
    "`keepalive` in an upstream of `uwsgi_pass`: the uwsgi module opens a connection for each request all the same.",
)
def _keepalive(case: Case) -> Iterator[Found]:
    # A proxy_pass to the same upstream needs it.
    proxied = {
        _http_peer(resolve_sets(directive.value, level)).text
        for level in case.tree.levels
        for directive in level.have("proxy_pass")
    }
    for upstream in {
        way.upstream.directive.value: way.upstream for way in case.tree.ways if way.upstream
    }.values():
        if upstream.directive.value not in proxied:
            for directive in upstream.have("keepalive"):
                yield Found(
                    directive,
                    "uwsgi has a connection for each request: keepalive does nothing",
                    REMOVE,
                )


def _http_peer(url: str) -> Peer:
    peer = parse_peer(url.partition("://")[2])
    return Peer(
        peer.text.partition("/")[0] if not peer.path else peer.text, peer.path, peer.host, peer.port
    )


@for_case(
    "proxy-pass-to-uwsgi",
    Severity.ERROR,
    "`proxy_pass` speaks HTTP to an address of `--bind`, or to one that a `uwsgi_pass` leads to.",
)
def _proxy(case: Case) -> Iterator[Found]:
    ours = {peer for way in case.tree.ways for _, peer in way.peers}
    names = {way.upstream.directive.value for way in case.tree.ways if way.upstream}
    places = {(peer.path, peer.host, peer.port) for peer in ours} | _bound(case)
    for level in case.tree.levels:
        for directive in level.have("proxy_pass"):
            url = resolve_sets(directive.value, level)
            peer = _http_peer(url)
            place = (peer.path.partition(":")[0], peer.host, peer.port)
            if "$" in url or not (place in places or peer.text in names):
                continue
            yield Found(
                directive,
                f"{peer.text} speaks uwsgi, and proxy_pass speaks HTTP to it",
                f"uwsgi_pass {_uwsgi_text(peer)};",
            )


def _uwsgi_text(peer: Peer) -> str:
    return f"unix:{peer.path.partition(':')[0]}" if peer.path else peer.text


def _bound(case: Case) -> set[tuple[str, str, str]]:
    places = set()
    for text in case.bridge.settings.bind:
        try:
            address = parse_address(text)
        except AddressError:
            continue
        if isinstance(address, UnixAddress):
            places.add((address.path, "", ""))
        elif isinstance(address, TcpAddress):
            hosts = {address.host} | ({"localhost"} if address.host.startswith("127.") else set())
            places |= {("", host, str(address.port)) for host in hosts}
    return places


@for_case(
    "bind-elsewhere",
    Severity.WARNING,
    "No `uwsgi_pass` leads to any address of the given `--bind`.",
)
def _bind(case: Case) -> Iterator[Found]:
    if "bind" not in case.bridge.given or not case.tree.ways:
        return
    addresses = [parse_address(text) for text in case.bridge.settings.bind]
    places = _bound(case)
    ports = {str(it.port) for it in addresses if isinstance(it, TcpAddress)}
    names = {PurePosixPath(it.path).name for it in addresses if isinstance(it, UnixAddress)}
    if not places or not all(way.peers for way in case.tree.ways):
        return
    for way in case.tree.ways:
        for _, peer in way.peers:
            # A container has another name for the machine, and another directory for the same volume.
            is_there = (peer.path, peer.host, peer.port) in places
            if is_there or peer.port in ports or PurePosixPath(peer.path).name in names:
                return
    first = case.tree.ways[0]
    yield Found(
        first.uwsgi_pass,
        f"the bridge listens at {' and '.join(case.bridge.settings.bind)}, and no uwsgi_pass leads there",
        f"uwsgi_pass {case.bridge.settings.bind[0]};",
    )


@for_way(
    "next-upstream-post",
    Severity.WARNING,
    "`uwsgi_next_upstream non_idempotent`: a POST that was carried out is sent to the next server as well.",
)
def _next(_case: Case, way: Way) -> Iterator[Found]:
    directive = way.level.one("uwsgi_next_upstream")
    if directive is not None and "non_idempotent" in directive.args:
        rest = " ".join(arg for arg in directive.args if arg != "non_idempotent") or "error timeout"
        yield Found(
            directive,
            "a POST that was carried out, and whose answer was lost, is carried out by the next server once more",
            f"uwsgi_next_upstream {rest};",
        )
