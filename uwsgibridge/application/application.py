"""An application that is loaded: its prefix, its interface and its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from uwsgibridge.application.interface import check_interface, detect_interface, name_of
from uwsgibridge.errors import SettingsError
from uwsgibridge.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Application:
    """An application and where it is mounted.

    Attributes:
        app: the callable.
        interface: ``wsgi`` or ``asgi``.
        name: the application's name in the log.
        prefix: the path that the application is mounted at, without a slash at its end.
    """

    app: Callable[..., Any]
    interface: str
    name: str
    prefix: str = ""


def describe(
    app: Callable[..., Any], interface: str = "auto", *, name: str = "", prefix: str = ""
) -> Application:
    """Decide on an application's interface and name.

    Args:
        app: the callable.
        interface: ``wsgi``, ``asgi``, or ``auto`` to tell by the callable.
        name: for the log; by default the callable's module and name.
        prefix: the path that the application is mounted at.

    Raises:
        ApplicationError: the callable does not fit the interface.
    """
    if interface == "auto":
        interface = detect_interface(app)
    else:
        check_interface(app, interface)
    return Application(app, interface, name or name_of(app), prefix)


def check_prefixes(applications: Sequence[Application]) -> None:
    """Refuse two applications at one prefix.

    Raises:
        SettingsError: two applications have the same prefix.
    """
    prefixes = [application.prefix for application in applications]
    for prefix in prefixes:
        if prefixes.count(prefix) > 1:
            raise SettingsError(f"two applications are mounted at {prefix or '/'!r} (--mount)")
