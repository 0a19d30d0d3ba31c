"""Which event loop runs an ASGI application: uvloop where it is installed, else asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from typing import Any

from uwsgibridge.errors import SettingsError


@contextlib.contextmanager
def without_sigint_handling() -> Any:
    # Trio raises KeyboardInterrupt, until it receives signals, only where the default handler is in place.
    previous = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def choose_loop(name: str, warn: Callable[[str], object]) -> tuple[Any, bool]:
    """Find the event loop that ``--loop`` names.

    Args:
        name: ``auto``, ``uvloop`` or ``asyncio``.
        warn: called with the reason where ``auto`` finds a uvloop that can't be imported.

    Returns:
        The loop's factory, and whether the loop sets the wake-up descriptor for signals itself.

    Raises:
        SettingsError: ``uvloop`` is asked for and can't be imported.
    """
    if name in {"auto", "uvloop"}:
        try:
            import uvloop
        except ImportError as error:
            is_there = not (isinstance(error, ModuleNotFoundError) and error.name == "uvloop")
            if name == "uvloop":
                raise SettingsError(
                    f"--loop uvloop: it can't be imported: {error}"
                    if is_there
                    else "--loop uvloop: it is not installed; pip install 'uwsgibridge[uvloop]'"
                ) from None
            if is_there:
                warn(str(error))
        else:
            return uvloop.new_event_loop, True
    _replace_policy_without_programs()
    # Not new_event_loop, which makes a loop of the policy that the application has set: mostly uvloop's.
    return asyncio.SelectorEventLoop, False


def _replace_policy_without_programs() -> None:
    """Take asyncio's own policy where the application's has no watcher of child processes, as uvloop's has none.

    Before Python 3.14, a loop of asyncio that starts a program asks the policy for one.
    """
    if sys.version_info >= (3, 14):
        return
    policy = type(asyncio.get_event_loop_policy())
    if policy.get_child_watcher is asyncio.AbstractEventLoopPolicy.get_child_watcher:
        asyncio.set_event_loop_policy(None)
