"""Tells whether an application's exception is a failure, or comes from the end of a connection."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Final, TypeAlias

import trio

from uwsgibridge.connection.sending import PeerGone

_Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

# What asyncio says where no loop of its runs, and from Python 3.14 on where none is set.
_WITHOUT_LOOP: Final = ("no running event loop", "There is no current event loop")

# What trio says where a task awaits a future of another loop (`Runner.run` in trio/_core/_run.py).
_OF_ANOTHER_LOOP: Final = "written for some other framework like asyncio"

# What an operator is to do about an application that lacks asyncio, and runs on trio.
WITHOUT_TRIO: Final = "the application is written for asyncio: leave out --loop trio"

# Exceptions to look at in one chain: a longer chain was made by mistake.
_MAX_CHAIN: Final = 100

# Groups within groups to look at: deeper ones were made by mistake.
_MAX_DEPTH: Final = 20

_ENDS: Final = (PeerGone, trio.Cancelled)

# How frameworks, and applications that raise Python's own exceptions, say that the client has left.
_WORDS: Final = re.compile(
    r"client (?:has |was )?disconnect|disconnect message|close message", re.IGNORECASE
)

# These exceptions never say that a client has left. Raised while a disconnect is handled, they are mistakes.
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
    """Whether an exception is of a kind, or was raised because of an exception of that kind.

    Args:
        error: what was raised.
        kinds: a class, or several.
    """
    # Attributes may run code of the application, which may exit.
    with contextlib.suppress(BaseException):
        return any(isinstance(one, kinds) for one in _chain(error))
    return False


def lacks_loop(error: BaseException) -> bool:
    """Whether this very exception says that no event loop of asyncio runs."""
    return isinstance(error, RuntimeError) and str(error).startswith(_WITHOUT_LOOP)


def lacks_asyncio(error: BaseException) -> bool:
    """Whether an exception comes from code that needs asyncio where none runs.

    The exceptions that it was raised from, or while they were handled, count as well, and so do those of groups.

    Args:
        error: what an application raised in a task of trio.
    """
    # Attributes and str() may run code of the application, which may exit.
    with contextlib.suppress(BaseException):
        return _lacks_asyncio(error, _MAX_DEPTH)
    return False


def _lacks_asyncio(error: BaseException, depth: int) -> bool:
    return depth > 0 and any(
        any(_lacks_asyncio(it, depth - 1) for it in one.exceptions)
        if isinstance(one, BaseExceptionGroup)
        else lacks_loop(one) or (isinstance(one, TypeError) and _OF_ANOTHER_LOOP in str(one))
        for one in _chain(error)
    )


def is_due_to_disconnect(error: BaseException) -> bool:
    """Whether an exception says, in whatever words, that the client has left.

    Frameworks have exceptions of their own for that (`WebSocketDisconnect`, `ClientDisconnect`), or wrap
    the bridge's. So the exceptions that it was raised from, or while they were handled, count as well. A
    group says so if each of its exceptions does.

    Args:
        error: what an application raised when it knew, or could have known, that its client has left.
    """
    with contextlib.suppress(Exception):  # attributes may run code of the application
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
    # Without this module, nothing in this process can have raised asyncio's exception.
    asyncio = sys.modules.get("asyncio.exceptions")
    if asyncio is not None and isinstance(error, asyncio.CancelledError):
        return True
    return _WORDS.search(str(error)) is not None


def _is_called_so(kind: type) -> bool:
    name = kind.__name__.lower()
    return (
        "disconnect" in name and "server" not in name
    )  # "server disconnected" is said by HTTP clients


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an exception, the one that it was raised from or while which was handled, and so on."""
    one: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__
