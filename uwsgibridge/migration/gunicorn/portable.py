"""Makes of a value what another process can get and compare."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Final

_PLAIN: Final[tuple[type, ...]] = (bool, int, float, str)
# A value that holds itself has no end.
_MOST_LEVELS: Final = 20


@dataclass(frozen=True, slots=True)
class ClassNames:
    """The names of a class and of those that it derives from, the class first; each with its module."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.names[0]


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object of which only a description is left.

    Attributes:
        text: the description.
        names: of a function, the names that its code looks up.
    """

    text: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


def portable(value: Any, level: int = 0) -> Any:
    """Give a value in plain types; classes become `ClassNames`, and what has no plain form becomes `Opaque`."""
    if inspect.isclass(value):
        return class_names(value)
    if value is None or type(value) in _PLAIN:
        return value
    for plain in _PLAIN:
        if isinstance(value, plain):
            return plain(value)
    if level < _MOST_LEVELS:
        if isinstance(value, list | tuple):
            return [portable(one, level + 1) for one in value]
        if isinstance(value, dict):
            return {str(name): portable(one, level + 1) for name, one in value.items()}
    names = value.__code__.co_names if inspect.isfunction(value) else ()
    return Opaque(getattr(value, "__qualname__", None) or type(value).__qualname__, names)


def class_names(found: type) -> ClassNames:
    """Give the names of a class and of its bases."""
    return ClassNames(tuple(f"{one.__module__}.{one.__qualname__}" for one in found.__mro__))
