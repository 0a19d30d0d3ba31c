"""What an exception of an application's comes from: whether it is a failure, or the end of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

import trio

from uwsgibridge.connection.connection import PeerGone

_Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

# Longer chains are made by mistake.
_MAX_CHAIN: Final = 100

# Groups within groups, likewise.
_MAX_DEPTH: Final = 20

_ENDS: Final = (PeerGone, asyncio.CancelledError, trio.Cancelled)

# In the words of frameworks, and of applications that raise something of Python's own.
_WORDS: Final = re.compile(
    r"client (?:has |was )?disconnect|disconnect message|close message", re.IGNORECASE
)

# Raised while an end is handled, these are mistakes of the code that handles it, and not its word for it.
_MISTAKES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    TypeError,
)


def comes_from(error: BaseException, kinds: _Kinds) -> bool:
    """Whether an exception is of a kind, or was raised because of one that is.

    Args:
        error: what was raised.
        kinds: a class, or several.
    """
    with contextlib.suppress(Exception):  # of the application's code, which attributes may run
        return any(isinstance(one, kinds) for one in _chain(error))
    return False


def is_due_to_disconnect(error: BaseException) -> bool:
    """Whether an exception says, in whatever words, that the client has left.

    Frameworks have exceptions of their own for that (`WebSocketDisconnect`, `ClientDisconnect`), and wrap
    ours: what it was raised from, or while that was handled, is looked at. Of a group, each one counts.

    Args:
        error: what an application raised after it was told that its client has left, or could have been.
    """
    with contextlib.suppress(Exception):  # of the application's code, which attributes may run
        return _is_due(error, _MAX_DEPTH)
    return False


def _is_due(error: BaseException, depth: int) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return depth > 0 and all(_is_due(one, depth - 1) for one in error.exceptions)
    if _is_end(error):
        return True
    if error.__cause__ is not None:
        return any(map(_is_end, _chain(error.__cause__)))
    return not isinstance(error, _MISTAKES) and any(map(_is_end, _chain(error)))


def _is_end(error: BaseException) -> bool:
    if isinstance(error, _ENDS) or any(map(_is_called_so, type(error).__mro__)):
        return True
    return _WORDS.search(str(error)) is not None


def _is_called_so(kind: type) -> bool:
    name = kind.__name__.lower()
    return "disconnect" in name and "server" not in name  # which is the peer of an HTTP client


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an exception, and what each was raised from, or while what was handled."""
    one: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__
