"""The kinds of values that gunicorn's settings have, and what gunicorn makes of each value."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Any, Final

_NO_SUCH: Final = object()


class UnfitValueError(ValueError):
    """gunicorn does not start with a value; the message says what the setting takes."""


class Kind(Enum):
    """The kind of a setting's value."""

    TEXT = auto()  # str or None
    WHOLE = auto()  # int, 0 or more
    OCTAL = auto()  # int; on the command line its octal digits begin with 0
    FLAG = auto()  # bool
    TEXTS = auto()  # list of str
    COMMAS = auto()  # list of str, which is written as one text with commas
    DICTIONARY = auto()  # dict
    CLASS = auto()  # a class, or its name
    HOOK = auto()  # a function, or its name
    ACCOUNT = auto()  # a user or group: its name, or its number as int or str
    ANY = auto()  # gunicorn looks at it later


def convert(kind: Kind, value: Any, arities: tuple[int, ...] = ()) -> Any:
    """Make of a value what gunicorn makes of it.

    Args:
        kind: of the setting.
        value: as the configuration file or the command line has it.
        arities: of a hook, how many arguments it may take.

    Returns:
        The value that counts.

    Raises:
        UnfitValueError: gunicorn does not start with this value.
    """
    return _CONVERSIONS[kind](value, arities)


def _text(value: Any, _arities: tuple[int, ...] = ()) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise UnfitValueError("it has to be a text in quotes, or None")
    return value.strip()


def _whole(value: Any, _arities: tuple[int, ...] = ()) -> int:
    found: int | None = None
    if isinstance(value, int):
        found = int(value)
    elif isinstance(value, str):
        try:
            found = int(value, 0)
        except ValueError:
            found = None
    if found is None or found < 0:
        raise UnfitValueError(
            "it has to be a whole number, 0 or more; int(...) makes one of a fraction"
        )
    return found


def _flag(value: Any, _arities: tuple[int, ...] = ()) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    raise UnfitValueError("it has to be True or False")


def _texts(value: Any, _arities: tuple[int, ...] = ()) -> list[str]:
    if not value:
        return []
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Iterable):
        raise UnfitValueError("it has to be a list of texts")
    found = [_text(one) for one in items]
    if None in found:
        raise UnfitValueError("it has to be a list of texts")
    return [one for one in found if one is not None]


def _commas(value: Any, _arities: tuple[int, ...] = ()) -> list[str]:
    found = _text(value)
    return [one.strip() for one in found.split(",") if one] if found else []


def _dictionary(value: Any, _arities: tuple[int, ...] = ()) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise UnfitValueError("it has to be a dictionary")
    return value


def _class(value: Any, _arities: tuple[int, ...] = ()) -> Any:
    # gunicorn calls a function, and takes what it returns.
    found = value() if inspect.isfunction(value) or inspect.ismethod(value) else value
    if inspect.isclass(found):
        return found
    try:
        return _text(found)
    except UnfitValueError:
        raise UnfitValueError("it has to be a class, or the name of one in quotes") from None


def _hook(value: Any, arities: tuple[int, ...] = ()) -> Callable[..., Any]:
    found = _imported(value) if isinstance(value, str) else value
    if not callable(found):
        raise UnfitValueError("it has to be a function; leave the line out where there is none")
    if arities and _arity(found) not in arities:
        wanted = " or ".join(str(one) for one in arities)
        raise UnfitValueError(
            f"the function has to take {wanted} argument{'s' if wanted != '1' else ''}"
        )
    return found  # type: ignore[no-any-return] # callable() was the check


def _imported(name: str) -> Any:
    module, dot, attribute = name.rpartition(".")
    found: Any = _NO_SUCH
    if dot:
        try:
            found = getattr(importlib.import_module(module), attribute, _NO_SUCH)
        except ImportError as error:
            raise UnfitValueError(f"{name!r} can't be imported: {error}") from None
    if found is _NO_SUCH:
        raise UnfitValueError(f"there is no function {name!r}; its form is package.module.function")
    return found


def _arity(function: Callable[..., Any]) -> int:
    """Count the arguments that can be given by their position, as gunicorn does."""
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some callables written in C have no signature
        return -1
    return sum(one.kind in kinds for one in parameters)


def _account(value: Any, _arities: tuple[int, ...] = ()) -> str | None:
    if value is None:
        return None
    if isinstance(value, int | str):
        return str(value)
    raise UnfitValueError("it has to be a name or a number")


def _any(value: Any, _arities: tuple[int, ...] = ()) -> Any:
    return value


_CONVERSIONS: Final[dict[Kind, Callable[[Any, tuple[int, ...]], Any]]] = {
    Kind.TEXT: _text,
    Kind.WHOLE: _whole,
    Kind.OCTAL: _whole,
    Kind.FLAG: _flag,
    Kind.TEXTS: _texts,
    Kind.COMMAS: _commas,
    Kind.DICTIONARY: _dictionary,
    Kind.CLASS: _class,
    Kind.HOOK: _hook,
    Kind.ACCOUNT: _account,
    Kind.ANY: _any,
}
