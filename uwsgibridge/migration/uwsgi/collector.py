"""Keeps what is read in uWSGI's order, and does at once what uWSGI does at once: files, blocks, placeholders by name.

The rules are those of add_exported_option and uwsgi_configure in its core/config.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.plan import Place, Verdict
from uwsgibridge.migration.uwsgi.blocks import BLOCK_BEGINNINGS, BLOCK_ENDS, Block, World
from uwsgibridge.migration.uwsgi.expansion import Budget, expand
from uwsgibridge.migration.uwsgi.files import Files
from uwsgibridge.migration.uwsgi.formats.entry import Entry, FormatError, Note
from uwsgibridge.migration.uwsgi.item import Item
from uwsgibridge.migration.uwsgi.limits import MOST_DEPTH, MOST_SETTINGS
from uwsgibridge.migration.uwsgi.magic import Magic, Text
from uwsgibridge.migration.uwsgi.option_names import OPTION_NAMES

_SECTION: Final = "uwsgi"
# Options that read a file, and its format.
_FORMAT_OF_OPTION: Final[Mapping[str, str]] = {
    "ini": "ini", "xml": "xml", "xmlconfig": "xml", "yaml": "yaml", "yml": "yaml", "json": "json", "js": "json",
}  # fmt: skip
_FORMAT_OF_ENDING: Final[Mapping[str, str]] = {
    ".ini": "ini", ".xml": "xml", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".js": "json",
}  # fmt: skip
# UWSGI_OPT_IMMEDIATE of core/uwsgi.c and the plugins: what is applied as it is read, with its placeholders in it.
_AT_ONCE: Final = frozenset(
    {
        "plugins", "plugin", "need-plugins", "need-plugin", "plugins-dir", "plugin-dir", "autoload", "dlopen",
        "binary-append-data", "iprint", "exit", "cflags", "dot-h", "config-py", "build-plugin",
        "fallback-config", "strict", "blacklist", "end-blacklist", "whitelist", "end-whitelist", "stop",
        "reload", "pause", "suspend", "resume", "connect-and-read", "extract", "listen", "umask", "help",
        "usage", "print-sym", "print-symbol", "spooler-processes", "signal", "flock", "flock-wait", "flock2",
        "flock-wait2", "immediate-uid", "immediate-gid", "early-envdir", "command-mode", "pcre-jit",
        "ldap-schema", "ldap-schema-ldif", "perl-version", "python-version",
    }
)  # fmt: skip
# What uWSGI does and this reader does not, each with what to do instead.
_NOT_READ: Final[Mapping[str, str]] = {
    "config": "name the file by ini, yaml, xml or json",
    "inject-before": "put its text into the file, or include it",
    "inject-after": "put its text into the file, or include it",
    "resolve": "write the address itself",
    "if-hostname-match": "write if-hostname = NAME",
    "if-not-hostname-match": "write if-not-hostname = NAME",
    "sqlite": "put the settings into a file",
    "sqlite3": "put the settings into a file",
    "ldap": "put the settings into a file",
    "ini-paste": "name the application by module, and the rest by ini",
    "ini-paste-logged": "name the application by module, and the rest by ini",
    "pypy-ini-paste": "name the application by module, and the rest by ini",
}
_READ_HERE: Final = "It is read here."
_MOST_SHOWN: Final = 10


class Collector:
    """What has been read until now.

    Args:
        environ: of the process, which ``$( )`` and ``if-env`` ask.
        start: the directory of the start.
    """

    def __init__(self, environ: Mapping[str, str], start: str) -> None:
        self._environ = environ
        self._files = Files(start)
        # Names that declare-option has made, and whether they take a value.
        self.custom: dict[str, bool] = {}
        self._templates: dict[str, str] = {}
        self._magic = Magic(start)
        self._budget = Budget()
        self._items: list[Item] = []
        self._first: dict[str, Item] = {}
        self._world = World(environ, self._files, self._first)
        self._count = 0
        # What own options have become that were applied as they were read, and so before all others.
        self._applied: list[Item] = []
        self._block: Block | None = None
        self._blocks: list[tuple[Block, Item]] = []
        self._is_in_block = False
        self._depth = 0
        self._open: list[tuple[str, str, str]] = []
        self._last_ini = ""
        self._actions: Mapping[str, Callable[[Item], None]] = {
            **dict.fromkeys(_FORMAT_OF_OPTION, self._read_by_option),
            **dict.fromkeys(BLOCK_BEGINNINGS, self._begin_block),
            **dict.fromkeys(BLOCK_ENDS, self._pass_over),
            **dict.fromkeys(_NOT_READ, _refuse),
            **dict.fromkeys(_AT_ONCE, self._pass_over),
            "include": self._include,
            "set": self._set,
            "set-placeholder": self._set_placeholder,
            "set-ph": self._set_placeholder,
            "declare-option": self._declare,
        }

    def add(
        self,
        name: str,
        value: str | None,
        place: Place,
        *,
        is_bare: bool = False,
        notes: Sequence[Note] = (),
    ) -> None:
        """Take what was read next, and do what uWSGI does at once.

        Raises:
            ConfigurationError: uWSGI would not start with it, or it is more than is read.
        """
        if self._is_in_block:
            self._take(name, value, place, is_bare=is_bare, notes=notes)
            return
        if name in BLOCK_ENDS and self._block is not None:
            self._block.is_over = True
            self._block = None
        block = self._block
        if block is None:
            self._take(name, value, place, is_bare=is_bare, notes=notes)
            return
        members = list(block.members(self._world))
        if not members:
            block.left_out.append(place)
            if name in BLOCK_BEGINNINGS:
                block.nested.append(place)
            return
        self._is_in_block = True
        for member in members:
            item = Item(name, value, place)
            taken = None if value is None else self._budget.substitute(value, "%(_)", member, item)
            self._take(name, taken, place, is_bare=is_bare, notes=notes)
        self._is_in_block = False

    def _take(
        self, name: str, value: str | None, place: Place, *, is_bare: bool, notes: Sequence[Note]
    ) -> None:
        item = Item(name, value, place, is_bare=is_bare, notes=notes)
        self._keep(item)
        action = self._actions.get(name)
        if action is not None:
            action(item)
            item.is_done = True
        elif name in self._templates:
            self._applied += self._apply_own(name, value or "", place)
            item.is_done = True

    def _keep(self, item: Item) -> None:
        self._count_one(item.place)
        self._items.append(item)
        self._first.setdefault(item.name, item)

    def _count_one(self, place: Place) -> None:
        self._count += 1
        if self._count > MOST_SETTINGS:
            raise ConfigurationError(
                f"{place}: this is one setting too many; {MOST_SETTINGS} are read"
            )

    def finish(self) -> list[Item]:
        """Replace placeholders, and read what is read late.

        Returns:
            All settings in the order in which uWSGI applies them.

        Raises:
            ConfigurationError: something can't be read, or a value grows without end.
        """
        expand(self._items, self._environ, self._files, self._budget)
        finished = self._applied
        # What inherit names is read now, and comes last; nothing replaces its placeholders.
        for item in self._items:
            finished.append(item)
            if item.is_done:
                continue
            if item.name == "inherit":
                item.is_done = True
                item.notes.append(
                    (
                        Verdict.PASSED_OVER,
                        "It is read after all others, and wins over them.",
                        "inherit",
                    )
                )
                self.load_by_ending(item.value or "", item.place)
            elif item.name == "declare-option2":
                self._declare(item)
            elif item.name in self._templates:
                finished += self._apply_own(item.name, item.value or "", item.place)
        for block, item in self._blocks:
            _describe_block(block, item)
        return finished

    def load_by_ending(self, name: str, place: Place) -> None:
        """Read a file whose name tells its format.

        Raises:
            ConfigurationError: it does not, or the file can't be read.
        """
        wanted = next(
            (it for ending, it in _FORMAT_OF_ENDING.items() if name.endswith(ending)), None
        )
        if wanted is None:
            known = " ".join(dict.fromkeys(_FORMAT_OF_ENDING))
            raise ConfigurationError(
                f"{place}: {name!r} does not end in one of {known}, and uWSGI would not read it; "
                f"{'--ini FILE' if place.line == 0 else 'ini = FILE'} takes any name"
            )
        has_first = self._magic.has_first
        self._magic.has_first = True
        self._load(wanted, name, place)
        self._magic.has_first = has_first

    def _load(self, kind: str, name: str, place: Place) -> None:
        self._files.check(name, place)
        self._magic.fill(name, place)
        file, colon, section = name.rpartition(":")
        if not colon:
            file, section = section, ""
        if kind == "ini":
            # ":section" names another section of the ini file that was read last.
            file = self._last_ini if colon and not file else file
            if file:
                self._last_ini = file
        reading = (kind, self._files.path(file), section or _SECTION)
        if reading in self._open:
            raise ConfigurationError(f"{place}: {name!r} is read within itself; take this line out")
        if len(self._open) >= MOST_DEPTH:
            raise ConfigurationError(
                f"{place}: {name!r} is included {MOST_DEPTH} levels deep; no more are read"
            )
        text = self._magic.replace(self._files.read(file, place), place)
        try:
            entries = _read(kind, text, section)
        except FormatError as error:
            raise ConfigurationError(f"{Place(file, error.line)}: {error}") from None
        self._open.append(reading)
        for entry in entries:
            notes = entry.notes
            if entry.line in text.lost:
                notes = (*notes, _lost(entry, text))
            self.add(
                entry.name, entry.value, Place(file, entry.line), is_bare=entry.is_bare, notes=notes
            )
        self._open.pop()

    # What uWSGI does as it reads.

    def _pass_over(self, _item: Item) -> None:
        """Leave it: it is for those who apply it."""

    def _read_by_option(self, item: Item) -> None:
        item.notes.append((Verdict.PASSED_OVER, _READ_HERE, item.name))
        self._load(_FORMAT_OF_OPTION[item.name], item.value or "", item.place)

    def _include(self, item: Item) -> None:
        item.notes.append((Verdict.PASSED_OVER, _READ_HERE, item.name))
        self.load_by_ending(item.value or "", item.place)

    def _begin_block(self, item: Item) -> None:
        if self._block is not None:
            raise ConfigurationError(
                f"{item.place}: {item.name} stands between {self._block.kind} ({self._block.place}) and its end; "
                "uWSGI has no blocks within blocks, and would not start"
            )
        self._block = Block(item.name, item.value or "", item.place)
        self._blocks.append((self._block, item))

    def _set(self, item: Item) -> None:
        name, value = _divided(item)
        self.add(name, value, item.place)

    def _set_placeholder(self, item: Item) -> None:
        name, value = _divided(item)
        if name in OPTION_NAMES:
            raise ConfigurationError(
                f"{item.place}: {name} is an option and no placeholder; write {name} = {value}"
            )
        self._keep(Item(name, value, item.place, is_done=True, is_placeholder=True))

    def _declare(self, item: Item) -> None:
        name, template = _divided(item)
        if name not in OPTION_NAMES:
            self._templates.setdefault(name, template)
            self.custom.setdefault(name, any(it in template for it in ("$1", "$2", "$3")))

    def _apply_own(self, name: str, value: str, place: Place) -> list[Item]:
        """Give what an option becomes that declare-option has made (uwsgi_opt_custom in core/config.c)."""
        if self._depth >= MOST_DEPTH:
            raise ConfigurationError(f"{place}: {name} stands for itself, {MOST_DEPTH} levels deep")
        self._depth += 1
        item = Item(name, value, place)
        arguments = [it for it in value.split(" ") if it] if value else [""]
        found = []
        for piece in self._templates[name].split(";"):
            if not piece:
                continue
            self._budget.spend(len(piece) + len(arguments), item)
            option, equals, text = piece.partition("=")
            if not equals:
                break
            for index, argument in enumerate(arguments, 1):
                option = self._budget.substitute(option, f"${index}", argument, item)
                text = self._budget.substitute(text, f"${index}", argument, item)
            self._count_one(place)
            if option in self._templates and option not in OPTION_NAMES:
                found += self._apply_own(option, text, place)
            elif option in OPTION_NAMES:
                one = Item(option, text, place, is_done=True)
                found.append(one)
                if option in self._actions:
                    self._actions[option](one)
        self._depth -= 1
        return found


def _read(kind: str, text: Text, section: str) -> list[Entry]:
    match kind:
        case "ini":
            from uwsgibridge.migration.uwsgi.formats.ini_text import read_ini

            return read_ini(text, section or _SECTION)
        case "yaml":
            from uwsgibridge.migration.uwsgi.formats.yaml_text import read_yaml

            return read_yaml(text, section or _SECTION)
        case "xml":
            from uwsgibridge.migration.uwsgi.formats.xml_text import read_xml

            return read_xml(text, section or None)
    from uwsgibridge.migration.uwsgi.formats.json_text import read_json

    return read_json(text, section or _SECTION)


def _refuse(item: Item) -> None:
    raise ConfigurationError(f"{item.place}: {item.name} is not read here; {_NOT_READ[item.name]}")


def _divided(item: Item) -> tuple[str, str]:
    name, equals, value = (item.value or "").partition("=")
    if not equals:
        raise ConfigurationError(
            f"{item.place}: {item.name} = {item.value or ''} has to be of the form {item.name} = name=value"
        )
    return name, value


def _lost(entry: Entry, text: Text) -> Note:
    written = text.lost[entry.line]
    if "%" in written:
        message = "The % at the end of the line takes the line's end with it, so that the next line is a part of this one"
    else:
        message = f"uWSGI has a meaning of its own for % and what stands behind it, here for {', '.join(written)}"
    return Verdict.WARNED, f"{message}; write %% for a %.", entry.name


def _describe_block(block: Block, item: Item) -> None:
    """Say what has become of a block's lines."""
    if block.left_out:
        lines = _listed(block.left_out)
        text = f"It does not hold, and so these lines are left out: {lines}."
        item.notes.append((Verdict.PASSED_OVER, text, item.name))
    else:
        text = "Its lines are repeated." if block.is_loop else "It holds, and its lines are taken."
        item.notes.append((Verdict.PASSED_OVER, text, item.name))
    if block.nested:
        lines = _listed(block.nested)
        text = f"A block begins within it ({lines}); uWSGI has none of that, and the first end ends this one."
        item.notes.append((Verdict.WARNED, text, item.name))
    if not block.is_over:
        text = f"It has no end ({'endfor' if block.is_loop else 'endif'}), and so it is for all that is read after it."
        item.notes.append((Verdict.WARNED, text, item.name))


def _listed(places: Sequence[Place]) -> str:
    texts = list(dict.fromkeys(str(it) for it in places))
    return ", ".join(texts[:_MOST_SHOWN]) + (", ..." if len(texts) > _MOST_SHOWN else "")
