"""What is in force where: the levels of a configuration, and each way that leads to a ``uwsgi_pass``.

Nginx merges directives from the outer level to the inner one. A directive with one value is inherited unless the inner
level has its own (ngx_conf_merge_*_value). One that can stand several times is inherited only where the inner level has
none of that name (ngx_http_uwsgi_module.c, ngx_http_headers_filter_module.c: ``if (conf->params_source == NULL)``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from uwsgibridge.frontend.check.reading import Directive
from uwsgibridge.frontend.check.terms import Peer, parse_peer

# Blocks that are levels of inheritance, by the kind of level they may stand in.
_LEVELS: Final = {
    "main": {"http"},
    "http": {"server"},
    "server": {"location", "if"},
    "location": {"location", "if", "limit_except"},
    "if": set[str](),
    "limit_except": set[str](),
}
# What a file that is included into a level has: the first of these that is found says which level.
_SIGNS: Final = (
    ("main", {"http", "events", "stream", "mail"}),
    (
        "http",
        {"server", "upstream", "map", "geo", "log_format", "uwsgi_cache_path", "limit_req_zone"},
    ),
    ("server", {"location", "listen", "server_name"}),
)
_OUTER: Final = {
    "main": (),
    "http": ("main",),
    "server": ("main", "http"),
    "location": ("main", "http", "server"),
}

# Blocks that give a variable one of several values.
_CHOOSING: Final = ("map", "split_clients", "geo")

_MODIFIED: Final = re.compile(r"(=|\^~|~\*?)(.*)", re.DOTALL)
VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")


@dataclass(eq=False, slots=True)
class Level:
    """One level: main, http, server, location, if or limit_except.

    Attributes:
        kind: its name.
        directive: the block; None for a level around a file that is included somewhere.
        parent: the level around it.
        own: its directives, but for the levels below it.
        below: the levels in it, in order.
    """

    kind: str
    directive: Directive | None
    parent: Level | None
    own: list[Directive] = field(default_factory=list)
    below: list[Level] = field(default_factory=list)
    _by_name: dict[str, list[Directive]] = field(default_factory=dict)

    def add(self, directive: Directive) -> None:
        """Add a directive of its own, while the tree grows."""
        self.own.append(directive)
        self._by_name.setdefault(directive.name, []).append(directive)

    def around(self) -> Iterator[Level]:
        """Yield this level, and those around it."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent

    def within(self) -> Iterator[Level]:
        """Yield this level, and all below it."""
        yield self
        for level in self.below:
            yield from level.within()

    def have(self, name: str) -> list[Directive]:
        """Give the level's own directives of a name."""
        return self._by_name.get(name, [])

    def one(self, name: str) -> Directive | None:
        """Give the directive in force of a name that has one value."""
        for level in self.around():
            if own := level.have(name):
                return own[-1]
        return None

    def all(self, name: str) -> list[Directive]:
        """Give the directives in force of a name that can stand several times."""
        return next((own for level in self.around() if (own := level.have(name))), [])

    def may_hide(self, name: str) -> bool:
        """Whether what is in force of a name may stand in a file that was not found: its ``include`` is still there."""
        for level in self.around():
            if level.have("include"):
                return True
            if level.have(name):
                return False
        return False

    def is_on(self, name: str, *, default: bool) -> bool:
        """Whether a switch is on."""
        directive = self.one(name)
        return default if directive is None else directive.value == "on"

    def nearest(self, kind: str) -> Level | None:
        """Give the nearest level of a kind, this one included."""
        return next((level for level in self.around() if level.kind == kind), None)

    @property
    def path(self) -> str:
        """The path of a location, such as ``/api/``, ``@app`` or a regular expression; nothing elsewhere."""
        return self._place()[1]

    @property
    def modifier(self) -> str:
        """The modifier of a location: ``=``, ``^~``, ``~``, ``~*`` or nothing."""
        return self._place()[0]

    def _place(self) -> tuple[str, str]:
        if self.kind != "location" or self.directive is None or not self.directive.args:
            return "", ""
        if len(self.directive.args) > 1:
            return self.directive.args[0], self.directive.args[1]
        # Both may be one word, as in `location ~^/api` (ngx_http_core_location).
        found = _MODIFIED.fullmatch(self.directive.value)
        return (found[1], found[2]) if found else ("", self.directive.value)


@dataclass(frozen=True, slots=True)
class Upstream:
    """An ``upstream`` block.

    Attributes:
        directive: the block.
        servers: its ``server`` lines with whom they name.
    """

    directive: Directive
    servers: tuple[tuple[Directive, Peer], ...]

    def have(self, name: str) -> list[Directive]:
        """Give its directives of a name."""
        return [it for it in self.directive.block or () if it.name == name]


@dataclass(frozen=True, slots=True)
class Way:
    """A way that leads to an application. Where a ``map``, ``split_clients`` or ``geo`` chooses, each choice is a way.

    Attributes:
        uwsgi_pass: the directive.
        level: where it stands.
        location: the location around it, or the server where there is none.
        server: the server around it, or the level that stands for one.
        upstream: the upstream that it names.
        peers: whom it leads to, each with the line that says so. Empty where that can't be told.
        has_variable: whether it names whom it leads to by a variable.
    """

    uwsgi_pass: Directive
    level: Level
    location: Level
    server: Level
    upstream: Upstream | None
    peers: tuple[tuple[Directive, Peer], ...]
    has_variable: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole configuration.

    Attributes:
        ways: all ways that lead to a ``uwsgi_pass``.
        ways_of: the ways of each server that has one.
        levels: all levels, from the outermost on.
    """

    ways: tuple[Way, ...]
    ways_of: dict[Level, tuple[Way, ...]]
    levels: tuple[Level, ...]


def grow(directives: tuple[Directive, ...]) -> Tree:
    """Make a tree of the directives of a file, which may be one that is included into a level."""
    kind = _kind_of(directives)
    main = level = Level("main", None, None)
    for outer in (*_OUTER[kind], kind)[1:]:
        below = Level(outer, None, level)
        level.below.append(below)
        level = below
    _fill(level, directives)
    levels = tuple(main.within())
    upstreams, choices = _find_upstreams(main), _find_choices(main)
    ways = tuple(
        way
        for level in levels
        for directive in level.have("uwsgi_pass")
        if level.kind in {"location", "if", "limit_except"}
        for way in _ways(directive, level, upstreams, choices)
    )
    ways_of: dict[Level, tuple[Way, ...]] = {}
    for way in ways:
        ways_of[way.server] = (*ways_of.get(way.server, ()), way)
    return Tree(ways, ways_of, levels)


def _kind_of(directives: tuple[Directive, ...]) -> str:
    names = {directive.name for directive in directives}
    return next((kind for kind, signs in _SIGNS if names & signs), "location")


def _fill(level: Level, directives: tuple[Directive, ...]) -> None:
    for directive in directives:
        if directive.block is not None and directive.name in _LEVELS[level.kind]:
            below = Level(directive.name, directive, level)
            level.below.append(below)
            _fill(below, directive.block)
        else:
            level.add(directive)


def _find_upstreams(main: Level) -> dict[str, Upstream]:
    found = {}
    for level in main.within():
        if level.kind != "http":
            continue
        for directive in level.have("upstream"):
            servers = tuple(
                (server, parse_peer(server.value))
                for server in directive.block or ()
                if server.name == "server"
            )
            found[directive.value] = Upstream(directive, servers)
    return found


def _find_choices(main: Level) -> dict[str, tuple[Directive, ...]]:
    """Give the lines of each ``map``, ``split_clients`` and ``geo``, by the variable that they give a value to."""
    found: dict[str, tuple[Directive, ...]] = {}
    for level in main.within():
        for directive in (it for name in _CHOOSING for it in level.have(name)):
            lines = tuple(it for it in directive.block or () if len(it.args) == 1)
            if directive.args and lines:
                found[directive.args[-1]] = tuple(it for it in lines if it.name != "include")
    return found


def _ways(
    directive: Directive,
    level: Level,
    upstreams: dict[str, Upstream],
    choices: dict[str, tuple[Directive, ...]],
) -> Iterator[Way]:
    text = resolve_sets(directive.value, level)
    chosen = choices.get(text.replace("{", "").replace("}", ""))
    targets = [(it, it.value) for it in chosen] if chosen else [(directive, text)]
    location = level.nearest("location") or level
    server = level.nearest("server") or level
    has_variable = "$" in directive.value
    for at, target in targets:
        peer = parse_peer(target)
        upstream = upstreams.get(peer.text)
        peers: tuple[tuple[Directive, Peer], ...]
        if upstream is not None:
            peers = upstream.servers
        else:
            peers = () if "$" in target or not target else ((at, peer),)
        yield Way(directive, level, location, server, upstream, peers, has_variable)


def resolve_sets(text: str, level: Level) -> str:
    """Put in the values that ``set`` gives to variables on a level and around it, if there is only one for each."""

    def value(found: re.Match[str]) -> str:
        name = "$" + (found[1] or found[2])
        values = {
            directive.args[1]
            for around in level.around()
            for directive in around.have("set")
            if len(directive.args) == 2 and directive.args[0] == name
        }
        return values.pop() if len(values) == 1 else found[0]

    return VARIABLE.sub(value, text)
