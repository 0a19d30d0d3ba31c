"""The vars of a packet as an ASGI application has them in its scope."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final


class UwsgiVars(dict[bytes, bytes]):
    """All vars of the packet as bytes, filled in at the first look.

    A real dict, for all that walks through a scope: json, deepcopy, pickle. Most applications never
    look at it, so to make one costs a reference, and no encoding.

    What reads a dict's memory without asking it, as json's encoder in C does, finds it empty until
    somebody else has looked.

    Args:
        variables: the vars as text in latin-1.
    """

    __slots__ = ("_unread",)

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._unread: Mapping[str, str] | None = variables

    def __missing__(self, key: bytes) -> bytes:
        self._fill()
        if key in self:
            return self[key]
        raise KeyError(key)

    def __eq__(self, other: object) -> bool:
        return dict(self) == other

    def __ne__(self, other: object) -> bool:
        return dict(self) != other

    __hash__ = None  # as every dict has it

    def __repr__(self) -> str:
        # Not the values: a scope that is printed would show cookies.
        return f"<{len(self)} uwsgi vars>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Make copies and pickles without a look, where none was taken yet."""
        unread = self._unread
        if unread is not None:
            return UwsgiVars, (unread,)
        pairs: Iterator[tuple[bytes, bytes]] = iter(self.items())
        return UwsgiVars, ({},), None, None, pairs

    def _fill(self) -> None:
        unread = self._unread
        if unread is not None:
            super().update(
                {name.encode("latin-1"): value.encode("latin-1") for name, value in unread.items()}
            )
            # Last, so that no other thread takes it for filled before it is.
            self._unread = None


# `__iter__` is also what keeps dict() and ** from reading the memory without asking.
_FILLED_BEFORE: Final = (
    *("__contains__", "__iter__", "__len__", "__or__", "__reversed__"),
    *("copy", "get", "items", "keys", "values"),
    *("__delitem__", "__ior__", "__setitem__", "clear", "pop", "popitem", "setdefault", "update"),
)


def _filled_before(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    @functools.wraps(method)
    def call(self: UwsgiVars, *arguments: Any, **named: Any) -> Any:
        self._fill()
        return method(self, *arguments, **named)

    return call


for _name in _FILLED_BEFORE:
    setattr(UwsgiVars, _name, _filled_before(_name))
