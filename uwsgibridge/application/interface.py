"""Which interface an application has: WSGI or ASGI."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, Literal

from uwsgibridge.errors import ApplicationError

_PARAMETERS: Final = {
    "wsgi": ("environ", "start_response"),
    "asgi": ("scope", "receive", "send"),
}
_ASGI_NAMES: Final = _PARAMETERS["asgi"]
_CALLS: Final = {interface: f"({', '.join(names)})" for interface, names in _PARAMETERS.items()}


def detect_interface(app: Callable[..., Any]) -> Literal["wsgi", "asgi"]:
    """Tell by the callable which interface it has.

    WSGI calls an application with two arguments (PEP 3333), ASGI 3 with three, and awaits what it
    returns. Where a callable takes whatever it is given, or does not tell, it is ASGI if it is a
    coroutine function, and WSGI if not.

    Raises:
        ApplicationError: the callable can be called in neither way.
    """
    signature = _own_signature(app)
    is_async = _is_async(app)
    if signature is None:
        return "asgi" if is_async or _names(app) == _ASGI_NAMES else "wsgi"
    takes_three = _accepts(signature, 3)
    if _accepts(signature, 2) and not is_async:
        # The third parameter has a default: only the names tell whether they are ASGI's.
        return "asgi" if takes_three and _names(app) == _ASGI_NAMES else "wsgi"
    if takes_three:
        return "asgi"
    raise _misfit(
        app,
        signature,
        f"fits neither interface: WSGI calls it with {_CALLS['wsgi']}, ASGI awaits it with "
        f"{_CALLS['asgi']}",
    )


def check_interface(app: Callable[..., Any], interface: str) -> None:
    """Check that an application can be called by the interface that was chosen for it.

    Args:
        app: the application.
        interface: ``wsgi`` or ``asgi``.

    Raises:
        ApplicationError: it can't be called so.
    """
    signature = _own_signature(app)
    if signature is not None and not _accepts(signature, len(_PARAMETERS[interface])):
        words = f"can't be called with {_CALLS[interface]}, as --interface {interface} has it"
        raise _misfit(app, signature, words)


def name_of(app: Callable[..., Any]) -> str:
    """Write a callable as ``module:name``; for an object, the name is that of its class."""
    try:
        return f"{app.__module__}:{app.__qualname__}"
    except Exception:  # noqa: BLE001 - a proxy may raise what it likes
        return f"{type(app).__module__}:{type(app).__qualname__}"


def _own_signature(app: Callable[..., Any]) -> inspect.Signature | None:
    """Give the signature of a callable; None where it takes any number of arguments, or does not tell."""
    # The signature of a wrapped function does not count: a decorator may call that function with other
    # arguments, as werkzeug's `Request.application` does.
    signature = _signature(app, follow_wrapped=False)
    if signature is None:
        return None
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    return None if inspect.Parameter.VAR_POSITIONAL in kinds else signature


def _signature(app: Callable[..., Any], *, follow_wrapped: bool) -> inspect.Signature | None:
    try:
        return inspect.signature(app, follow_wrapped=follow_wrapped)
    except Exception:  # noqa: BLE001 - by an annotation, or by what the object answers to a look at it
        return None


def _accepts(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_async(app: Callable[..., Any]) -> bool:
    target: Any = app
    while isinstance(target, functools.partial):
        target = target.func
    if not (inspect.isroutine(target) or inspect.isclass(target)):
        target = getattr(target, "__call__", None)  # noqa: B004 - the method is needed, not the answer
    return inspect.iscoroutinefunction(target)


def _names(app: Callable[..., Any]) -> tuple[str, ...]:
    """Give the names of the first three parameters; of a wrapper, those of the function that it wraps."""
    signature = _signature(app, follow_wrapped=True)
    parameters = signature.parameters.values() if signature else ()
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return tuple(one.name for one in parameters if one.kind in kinds)[:3]


def _misfit(app: Callable[..., Any], signature: inspect.Signature, words: str) -> ApplicationError:
    if _accepts(signature, 0):
        words = (
            "takes no arguments, so it is no application; if it returns one, serve it with "
            "--factory"
        )
    elif _accepts(signature, 1):
        words = (
            "takes one argument, as applications of ASGI 2 do, which is not served; wrap it with "
            "asgiref's guarantee_single_callable"
        )
    return ApplicationError(f"{name_of(app)} {words}")
