"""What stands between ``if-...`` or ``for...`` and its end: each of its lines is taken, left out or repeated.

uWSGI looks at the condition anew at each line, and repeats each line by itself (uwsgi_logic_opt_* in core/config.c).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Final

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.plan import Place
from uwsgibridge.migration.uwsgi.files import Files
from uwsgibridge.migration.uwsgi.item import Item
from uwsgibridge.migration.uwsgi.limits import MOST_SETTINGS
from uwsgibridge.migration.uwsgi.meaning import number

BLOCK_ENDS: Final = frozenset({"end", "endfor", "endif", "end-if", "end-for"})

# What uWSGI is built with where nobody says otherwise (buildconf/base.ini of its source).
_PLUGINS: Final = frozenset(
    {
        "python", "gevent", "ping", "cache", "nagios", "rrdtool", "carbon", "rpc", "corerouter", "fastrouter",
        "http", "ugreen", "signal", "syslog", "rsyslog", "logsocket", "router_uwsgi", "router_redirect",
        "router_basicauth", "zergpool", "redislog", "mongodblog", "router_rewrite", "router_http", "logfile",
        "router_cache", "rawrouter", "router_static", "sslrouter", "spooler", "cheaper_busyness", "symcall",
        "transformation_tofile", "transformation_gzip", "transformation_chunked", "transformation_offload",
        "router_memcached", "router_redis", "router_hash", "router_expires", "router_metrics",
        "transformation_template", "stats_pusher_socket",
    }
)  # fmt: skip
# fgets(3) with uWSGI's buffer.
_READLINE_CHARACTERS: Final = 1023


class World:
    """What a condition can ask for.

    Args:
        environ: of the process.
        files: reads and finds files.
        first: of each name that was read until now, the first setting. It grows meanwhile.
    """

    def __init__(self, environ: Mapping[str, str], files: Files, first: Mapping[str, Item]) -> None:
        self.environ = environ
        self.files = files
        self._first = first

    def exported(self, name: str) -> str | None:
        """Give the first value of an option, as far as it was read."""
        item = self._first.get(name)
        return None if item is None else item.value


class Block:
    """A block that has begun.

    Args:
        kind: the name of the option that begins it.
        argument: its value.
        place: where it stands.

    Attributes:
        left_out: lines that were not taken.
        nested: where blocks began within it, which uWSGI does not know.
        is_over: whether its end was found.
    """

    def __init__(self, kind: str, argument: str, place: Place) -> None:
        self.kind = kind
        self.argument = argument
        self.place = place
        self.left_out: list[Place] = []
        self.nested: list[Place] = []
        self.is_over = False
        self._members: list[str] | None = None

    @property
    def is_loop(self) -> bool:
        return self.kind.startswith("for")

    def members(self, world: World) -> Iterable[str | None]:
        """Give what ``%(_)`` is for each time that a line is taken, None where it stays as it is.

        Raises:
            ConfigurationError: it is too much, or can't be told.
        """
        if self.kind in _LOOPS:
            if self._members is None:
                self._members = _LOOPS[self.kind](self, world)
            return self._members
        return _CONDITIONS[self.kind](self.argument, world)

    def checked(self, members: Iterable[str]) -> list[str]:
        """Make a list of what is not too much.

        Raises:
            ConfigurationError: it is.
        """
        found = list(islice(members, MOST_SETTINGS + 1))
        if len(found) > MOST_SETTINGS:
            raise ConfigurationError(
                f"{self.place}: {self.kind} = {self.argument} repeats its lines more than {MOST_SETTINGS} times"
            )
        return found


def _split(block: Block, _world: World) -> list[str]:
    return block.checked(it for it in block.argument.split(" ") if it)


def _count(block: Block, _world: World) -> list[str]:
    return block.checked(str(it) for it in range(1, number(block.argument) + 1))


def _glob(block: Block, world: World) -> list[str]:
    import glob

    root = world.files.start
    found = block.checked(glob.iglob(block.argument, root_dir=root))  # noqa: PTH207 - names stay relative
    # glob(3) marks directories (GLOB_MARK), and gives the pattern back where nothing matches (GLOB_NOCHECK).
    marked = [f"{it}/" if os.path.isdir(os.path.join(root, it)) else it for it in sorted(found)]  # noqa: PTH112, PTH118
    return marked or [block.argument]


def _lines(block: Block, world: World) -> list[str]:
    text = world.files.read(block.argument, block.place).decode("utf-8", "surrogateescape")
    if not text:
        return []
    return block.checked(
        line[index : index + _READLINE_CHARACTERS].rstrip("\r\n")
        for line in text.removesuffix("\n").split("\n")
        for index in range(0, max(len(line), 1), _READLINE_CHARACTERS)
    )


_LOOPS: Final[Mapping[str, Callable[[Block, World], list[str]]]] = {
    "for": _split,
    "for-times": _count,
    "for-glob": _glob,
    "for-readline": _lines,
}

_Condition = Callable[[str, World], list[str | None]]


def _comparing(value_of: Callable[[str, World], str | None]) -> _Condition:
    """Make the condition that a name has a value at all, or, written ``name=value``, that one."""

    def condition(argument: str, world: World) -> list[str | None]:
        name, equals, wanted = argument.partition("=")
        value = value_of(name, world)
        return [value] if value is not None and (not equals or value == wanted) else []

    return condition


def _not_comparing(value_of: Callable[[str, World], str | None]) -> _Condition:
    def condition(argument: str, world: World) -> list[str | None]:
        name, equals, unwanted = argument.partition("=")
        value = value_of(name, world)
        return [value] if value is None or (equals and value != unwanted) else []

    return condition


def _holding(test: Callable[[str, World], bool], *, wanted: bool = True) -> _Condition:
    def condition(argument: str, world: World) -> list[str | None]:
        return [argument] if test(argument, world) == wanted else []

    return condition


def _variable(name: str, world: World) -> str | None:
    return world.environ.get(name)


def _option(name: str, world: World) -> str | None:
    return world.exported(name)


def _exists(path: str, world: World) -> bool:
    return bool(path) and os.access(world.files.path(path), os.R_OK)


def _is_file(path: str, world: World) -> bool:
    return bool(path) and os.path.isfile(world.files.path(path))  # noqa: PTH113


def _is_directory(path: str, world: World) -> bool:
    return bool(path) and os.path.isdir(world.files.path(path))  # noqa: PTH112


def _is_host(name: str, _world: World) -> bool:
    return os.uname().nodename == name


def _has_plugin(name: str, _world: World) -> bool:
    return name in _PLUGINS


def _never(_argument: str, _world: World) -> list[str | None]:
    return []


def _always(_argument: str, _world: World) -> list[str | None]:
    return [None]


_CONDITIONS: Final[Mapping[str, _Condition]] = {
    "if-opt": _comparing(_option),
    "if-not-opt": _not_comparing(_option),
    "if-env": _comparing(_variable),
    "ifenv": _comparing(_variable),
    "if-not-env": _not_comparing(_variable),
    # What is started is never uWSGI's reload, in which it runs itself anew.
    "if-reload": _never,
    "if-not-reload": _always,
    "if-hostname": _holding(_is_host),
    "if-not-hostname": _holding(_is_host, wanted=False),
    "if-exists": _holding(_exists),
    "ifexists": _holding(_exists),
    "if-not-exists": _holding(_exists, wanted=False),
    "if-plugin": _holding(_has_plugin),
    "ifplugin": _holding(_has_plugin),
    "if-not-plugin": _holding(_has_plugin, wanted=False),
    "if-file": _holding(_is_file),
    "if-not-file": _holding(_is_file, wanted=False),
    "if-dir": _holding(_is_directory),
    "ifdir": _holding(_is_directory),
    "if-directory": _holding(_is_directory),
    "if-not-dir": _holding(_is_directory, wanted=False),
}
BLOCK_BEGINNINGS: Final = frozenset(_LOOPS) | frozenset(_CONDITIONS)
