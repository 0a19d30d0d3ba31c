"""Importing an application by its name."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from uwsgibridge.application.application import Application, check_prefixes, describe
from uwsgibridge.config.mounts import parse_mount
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import ApplicationError, SettingsError
from uwsgibridge.system.collector import rare_collections
from uwsgibridge.telemetry.stacks import own_traceback

# For each library that patches the standard library: the module and the function that say what is patched,
# the modules that the server needs unpatched, and the call that patches the others.
_PATCHES: Final = (
    (
        "gevent",
        "gevent.monkey",
        "is_module_patched",
        ("threading", "select"),
        "monkey.patch_all(thread=False, select=False)",
    ),
    (
        "eventlet",
        "eventlet.patcher",
        "is_monkey_patched",
        ("thread", "select"),
        "eventlet.monkey_patch(thread=False, select=False)",
    ),
)


def load_application(name: str, *, app_dir: str = ".", factory: bool = False) -> Callable[..., Any]:
    """Import ``module:attribute``.

    Args:
        name: module and attribute; both may have dots. Without an attribute, ``application`` and
            ``app`` are tried, which Django and Flask use. With ``()`` at its end, the name is that of a
            factory, as for gunicorn.
        app_dir: put first on the import path.
        factory: whether the attribute is a function without arguments that returns the application.

    Returns:
        The application.

    Raises:
        ApplicationError: the message is one sentence; the error has the application's traceback where
            the application is at fault.
    """
    name, is_call = _split_call(name)
    app = _load(name, app_dir)
    if factory or is_call:
        app = _call_factory(app, name)
        _refuse_patches(name)
    return _checked(app, name)


def load_hook(name: str, *, app_dir: str = ".") -> Callable[[], object]:
    """Import a function that the bridge calls at a certain moment.

    Args:
        name: ``module:function``; an empty name stands for a function that does nothing.
        app_dir: as for `load_application`.

    Returns:
        A function that calls the imported one, and raises `ApplicationError` with the application's
        traceback where that fails.

    Raises:
        ApplicationError: the function can't be imported.
    """
    if not name:
        return lambda: None
    hook = _checked(_load(name, app_dir), name)

    def call() -> object:
        try:
            return hook()
        except (Exception, SystemExit) as error:
            raise ApplicationError(
                f"the hook {name} failed", traceback_text=own_traceback(error)
            ) from error

    return call


def _split_call(name: str) -> tuple[str, bool]:
    """Remove ``()`` from the end of a name; the second value is whether it was there."""
    callee, parenthesis, rest = name.partition("(")
    if not parenthesis:
        return name, False
    if rest.strip() != ")":
        raise ApplicationError(
            f"{name!r} is more than the call of a factory without arguments; write a function "
            "without arguments that makes this call, and name it with --factory"
        )
    return callee.rstrip(), True


def _load(name: str, app_dir: str) -> Any:
    module_name, _, attribute = name.partition(":")
    if not module_name or module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").replace("/", ".").strip(".") or "module"
        raise ApplicationError(
            f"{name!r} is not of the form module:attribute; write for example {dotted}:app"
        )
    directory = str(Path(app_dir).resolve())
    if not Path(directory).exists():  # exists, not is_dir: Python imports from zip archives, too
        raise ApplicationError(f"--app-dir {app_dir}: there is no directory {directory}")
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    module = _import_module(module_name, directory, is_bare=module_name == name)
    _refuse_patches(name)
    return _find_attribute(module, module_name, attribute)


def _call_factory(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise ApplicationError(f"{name} is not callable, so it can't be a factory (--factory)")
    try:
        app = factory()
    except (Exception, SystemExit) as error:
        sentence = f"the factory {name} failed"
        if isinstance(error, TypeError) and not _accepts_no_arguments(factory):
            sentence = (
                f"{name} needs arguments, so it is no factory: if it is the application itself, leave out () "
                "and --factory"
            )
        raise ApplicationError(sentence, traceback_text=own_traceback(error)) from error
    if inspect.iscoroutine(app):
        app.close()  # else Python warns of a coroutine that was never awaited
        raise ApplicationError(f"the factory {name} is an async function; it must be a plain one")
    return app


def _accepts_no_arguments(factory: Callable[..., Any]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return False
    except ValueError:  # some callables written in C have no signature
        return True
    return True


def _checked(found: Any, name: str) -> Callable[..., Any]:
    if not callable(found):
        raise ApplicationError(f"{name} is of type {type(found).__name__}, which can't be called")
    return found  # type: ignore[no-any-return] # callable() was the check


def _import_module(module_name: str, directory: str, *, is_bare: bool) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # If the named module is missing, the caller has made a mistake; if another one is, the application has.
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            parent, _, last = module_name.rpartition(".")
            if is_bare and hasattr(
                sys.modules.get(parent), last
            ):  # Python has imported the parents before
                raise ApplicationError(
                    f"there is no module {error.name!r} in {directory} or on the import path; a colon comes "
                    f"before what is to be served: did you mean {parent}:{last}?"
                ) from error
            raise ApplicationError(
                f"there is no module {error.name!r} in {directory} or on the import path; "
                "--app-dir names the directory to import from"
            ) from error
        raise ApplicationError(
            f"importing {module_name} failed", traceback_text=own_traceback(error)
        ) from error
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, SystemExit) and not isinstance(
            error.code, str
        ):  # a text is the reason
            hint = (
                ': it calls sys.exit(); what a script does belongs under if __name__ == "__main__":'
            )
        raise ApplicationError(
            f"importing {module_name} failed{hint}", traceback_text=own_traceback(error)
        ) from error


def _refuse_patches(name: str) -> None:
    """Refuse an application that has put green threads in the place of the threads that serve it.

    Raises:
        ApplicationError: it has done so.
    """
    for library, module, function, modules, instead in _PATCHES:
        # A library that the application has not imported has patched nothing.
        is_patched = getattr(sys.modules.get(module), function, lambda _name: False)
        patched = [it for it in modules if is_patched(it)]
        if patched:
            raise ApplicationError(
                f"{name} has {library} replace {' and '.join(patched)} (monkey patching), which this "
                "server itself runs on; leave that out, since requests run in threads (with "
                f'Flask-SocketIO, async_mode="threading"), or write {instead}'
            )


def _find_attribute(module: Any, module_name: str, attribute: str) -> Any:
    if not attribute:
        for usual in ("application", "app"):
            if hasattr(module, usual):
                return getattr(module, usual)
        raise ApplicationError(
            f"{module_name} has no attribute 'application' or 'app'; "
            f"name the one to serve: {module_name}:NAME"
        )
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            public = [name for name in dir(found) if not name.startswith("_")]
            close = get_close_matches(part, public, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ApplicationError(f"{module_name} has no attribute {part!r}{hint}") from None
        except Exception as error:
            raise ApplicationError(
                f"looking {part!r} up in {module_name} failed", traceback_text=own_traceback(error)
            ) from error
    return found


def load_applications(app_name: str | None, settings: Settings) -> list[Application]:
    """Import the main application and the mounted ones.

    Raises:
        SettingsError: no application is named, or two have the same prefix.
        ApplicationError: an application can't be imported, or the hook --on-load fails.
    """
    if not app_name and not settings.mount:
        raise SettingsError("name an application to serve: uwsgibridge serve module:attribute")
    show_prints_at_once()
    with rare_collections():
        load_hook(settings.on_load, app_dir=settings.app_dir)()
        applications = [load_one("", app_name, settings)] if app_name else []
        for prefix, name in map(parse_mount, settings.mount):
            try:
                applications.append(load_one(prefix, name, settings))
            except ApplicationError as error:
                raise ApplicationError(
                    f"{error} (mounted at {prefix or '/'})", traceback_text=error.traceback_text
                ) from error
    check_prefixes(applications)
    return applications


def load_one(prefix: str, name: str, settings: Settings) -> Application:
    app = load_application(name, app_dir=settings.app_dir, factory=settings.factory)
    return describe(app, settings.interface, name=name, prefix=prefix)


def show_prints_at_once() -> None:
    """Have Python write what the application prints at the end of each line, as log events are written."""
    # To a pipe or a file, Python writes in large blocks.
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, replaced, or None
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # see above
