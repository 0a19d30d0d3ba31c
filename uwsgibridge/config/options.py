"""Defines a row of the table of options: the kind of its value, its words and its rules.

`uwsgibridge.config.settings` is the table. The command line, the environment, the configuration file and the
reference page know an option by its row alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from enum import Enum, auto
from typing import Any, Final, Literal, Required, TypeAlias, TypedDict, Unpack, get_args

from uwsgibridge.errors import SettingsError
from uwsgibridge.quick_dataclass import dataclass

# A further check of one text or one number. It gets the option's name and the value, and raises SettingsError.
Rule: TypeAlias = Callable[[str, Any], object]
Section: TypeAlias = Literal[
    "Listening",
    "Application",
    "Running",
    "Processes",
    "Reloading",
    "Recycling",
    "System",
    "Limits",
    "Logging",
    "Figures",
]

# No option has a sensible number with more digits, and the system's timers end before 300 years.
_MOST: Final = 1_000_000_000_000
_MOST_SECONDS: Final = 1_000_000_000
_LEAST_SECONDS: Final = 0.001


class Kind(Enum):
    """The kind of an option's value."""

    WHOLE = auto()  # int
    BYTES = auto()  # int
    SECONDS = auto()  # float
    FLAG = auto()  # bool
    TEXT = auto()  # str
    TEXTS = auto()  # tuple of str: the option is repeatable
    CHOICE = auto()  # str, one of a few

    @property
    def is_number(self) -> bool:
        """Whether the value has a least and a most."""
        return self in {Kind.WHOLE, Kind.BYTES, Kind.SECONDS}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Option:
    """A row of the table.

    Attributes:
        kind: of its value.
        default: the value where none is given, or a function that gives it.
        help: what the option does, in sentences that can be read alone.
        section: of the help and of the reference page.
        metavar: the placeholder for the value in the help.
        short: a name of one letter on the command line.
        shown_default: words for the default, where its value says nothing.
        least, most: bounds of a number, both included.
        choices: the values of a choice.
        only: the interface that the option has a meaning for; None for both.
        needs_supervisor: whether the option can't be used with ``--workers 0``.
        rule: a further check of the value; of several texts, each one is checked.
        default_variable: a variable of the environment that other servers know, and whose value is the default.
        is_secret: whether a value may hold a secret behind ``=``, so that the log has the name before it alone.
        one_a_line: whether texts may have spaces, so that each has a line of its own in the environment.
    """

    kind: Kind
    default: Any
    help: str
    section: Section
    metavar: str | None = None
    short: str | None = None
    shown_default: str | None = None
    least: float = 0
    most: float = _MOST
    choices: tuple[str, ...] = ()
    only: Literal["wsgi", "asgi"] | None = None
    needs_supervisor: bool = False
    rule: Rule | None = None
    default_variable: str | None = None
    is_secret: bool = False
    one_a_line: bool = False

    def default_value(self) -> Any:
        """Give the value where none is given."""
        return self.default() if callable(self.default) else self.default

    @property
    def description(self) -> str:
        """What the option does, and for which interface."""
        return f"{self.help} {self.only.upper()} only." if self.only else self.help

    def shown(self, value: Any) -> Any:
        """Give a value as the log may show it: without what stands behind ``=``, where that may be a secret."""
        if not self.is_secret:
            return value
        return tuple(one.partition("=")[0] for one in value)

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that breaks a rule.

        Args:
            name: of the option, as the command line has it.
            value: of the option's kind.

        Raises:
            SettingsError: the value breaks a rule.
        """
        if self.kind is Kind.CHOICE and value not in self.choices:
            raise SettingsError(f"{name} {value!r} is none of {', '.join(self.choices)}")
        if self.kind.is_number:
            # Both comparisons are false for float("nan").
            if not value >= self.least:
                raise SettingsError(f"{name} {value} must be at least {self.least}")
            if not value <= self.most:
                raise SettingsError(f"{name} {value} must be at most {self.most}")
        if self.rule is not None:
            for one in value if self.kind is Kind.TEXTS else (value,):
                self.rule(name, one)


class _Rest(TypedDict, total=False):
    help: Required[str]
    section: Required[Section]
    metavar: str
    short: str
    shown_default: str
    most: float
    only: Literal["wsgi", "asgi"]
    needs_supervisor: bool
    rule: Rule
    default_variable: str
    is_secret: bool
    one_a_line: bool


# Functions that make a row of each kind. Each returns a field of a dataclass, whose annotation has the type.


def whole(default: int | Callable[[], int], *, least: int = 1, **row: Unpack[_Rest]) -> Any:
    """Make the row of a whole number."""
    return _row(Option(kind=Kind.WHOLE, default=default, least=least, **row))


def size(default: int, *, least: int = 1, **row: Unpack[_Rest]) -> Any:
    """Make the row of a number of bytes."""
    return _row(Option(kind=Kind.BYTES, default=default, least=least, **row))


def seconds(default: float, *, may_be_zero: bool = False, **row: Unpack[_Rest]) -> Any:
    """Make the row of a time."""
    row.setdefault("most", _MOST_SECONDS)
    least = 0 if may_be_zero else _LEAST_SECONDS
    return _row(Option(kind=Kind.SECONDS, default=default, least=least, **row))


def flag(**row: Unpack[_Rest]) -> Any:
    """Make the row of a flag, which is off by default."""
    return _row(Option(kind=Kind.FLAG, default=False, **row))


def text(default: str = "", **row: Unpack[_Rest]) -> Any:
    """Make the row of a text; an empty text means that none is given."""
    return _row(Option(kind=Kind.TEXT, default=default, **row))


def texts(*default: str, **row: Unpack[_Rest]) -> Any:
    """Make the row of an option that can be given several times."""
    return _row(Option(kind=Kind.TEXTS, default=default, **row))


def choice(values: object, default: str, **row: Unpack[_Rest]) -> Any:
    """Make the row of a choice.

    Args:
        values: the type, a `Literal`.
        default: one of the values.
        row: other attributes of the `Option`.
    """
    return _row(Option(kind=Kind.CHOICE, default=default, choices=get_args(values), **row))


def _row(option: Option) -> Any:
    metadata = {"option": option}
    if callable(option.default):
        return field(default_factory=option.default, metadata=metadata)
    return field(default=option.default, metadata=metadata)


def option_name(field_name: str) -> str:
    """Give the command line's spelling: ``--max-vars`` for ``max_vars``."""
    return "--" + field_name.replace("_", "-")
