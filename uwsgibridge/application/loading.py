"""Importing an application by its name."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from uwsgibridge.application.application import Application, check_prefixes, describe
from uwsgibridge.application.file_modules import lies_beside, load_file
from uwsgibridge.application.import_path import join_virtualenv, put_first
from uwsgibridge.application.naming import Call, parse_target, split_call
from uwsgibridge.config.mounts import parse_mount
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import ApplicationError, SettingsError
from uwsgibridge.system.collector import rare_collections
from uwsgibridge.telemetry.capturing import configure_by_file
from uwsgibridge.telemetry.stacks import own_traceback

# For each library that patches the standard library: the module and the function that say what is patched,
# the modules that the server needs unpatched, and the call that patches the others.
_PATCHES: Final = (
    (
        "gevent",
        "gevent.monkey",
        "is_module_patched",
        ("threading", "select"),
        # In a thread that gevent does not know, its subprocess raises, and its queues wake nobody.
        "monkey.patch_all(thread=False, select=False, subprocess=False, queue=False)",
    ),
    (
        "eventlet",
        "eventlet.patcher",
        "is_monkey_patched",
        ("thread", "select"),
        "eventlet.monkey_patch(thread=False, select=False)",
    ),
)


def load_application(
    name: str, *, app_dir: str = ".", python_path: Sequence[str] = (), factory: bool = False
) -> Callable[..., Any]:
    """Import ``module:attribute``, or ``path/file.py:attribute``.

    Args:
        name: module or file, and attribute; module and attribute may have dots. Without an attribute, ``application`` and
            ``app`` are tried, which Django and Flask use. With a call at its end, such as ``()`` or ``("prod", debug=False)``, the
            name is that of a factory; the arguments are literals.
        app_dir: put first on the import path.
        python_path: put before that, in their order.
        factory: whether the attribute is a function without arguments that returns the application.

    Returns:
        The application.

    Raises:
        ApplicationError: the message is one sentence; the error has the application's traceback where
            the application is at fault.
    """
    directory = put_first(app_dir, python_path)
    name, call = split_call(name)
    app = _load(name, directory)
    if factory or call is not None:
        app = _call_factory(app, name, call or Call())
        _refuse_patches(name)
    return _checked(app, name)


def load_hook(
    name: str, *, app_dir: str = ".", python_path: Sequence[str] = ()
) -> Callable[[], object]:
    """Import a function that the bridge calls at a certain moment.

    Args:
        name: ``module:function``; an empty name stands for a function that does nothing.
        app_dir: as for `load_application`.
        python_path: as for `load_application`.

    Returns:
        A function that calls the imported one, and raises `ApplicationError` with the application's
        traceback where that fails.

    Raises:
        ApplicationError: the function can't be imported.
    """
    if not name:
        return lambda: None
    hook = _checked(_load(name, put_first(app_dir, python_path)), name)

    def call() -> object:
        try:
            return hook()
        except ApplicationError:  # a hook of this package, which says everything
            raise
        except (Exception, SystemExit) as error:
            raise ApplicationError(
                f"the hook {name} failed", traceback_text=own_traceback(error)
            ) from error

    return call


def _load(name: str, directory: str) -> Any:
    target = parse_target(name)
    if target.is_file:
        module = _load_file(target.place)
    else:
        module = _import_module(target.place, directory, is_bare=target.place == name)
    _refuse_patches(name)
    return _find_attribute(module, target.place, target.attribute)


def _call_factory(factory: Any, name: str, call: Call) -> Any:
    if not callable(factory):
        raise ApplicationError(f"{name} is not callable, so it can't be a factory (--factory)")
    try:
        app = factory(*call.positional, **call.named)
    except (Exception, SystemExit) as error:
        sentence = f"the factory {name} failed{_hint_without_loop(error)}"
        misfit = _misfit(factory, call) if isinstance(error, TypeError) else ""
        if misfit and (call.positional or call.named):
            sentence = f"{name} can't be called with these arguments: {misfit}"
        elif misfit:
            sentence = (
                f"{name} needs arguments, so it is no factory: if it is the application itself, leave out () "
                'and --factory; if it is a factory, write them, as in "module:create_app(5)"'
            )
        raise ApplicationError(sentence, traceback_text=own_traceback(error)) from error
    if inspect.iscoroutine(app):
        app.close()  # else Python warns of a coroutine that was never awaited
        raise ApplicationError(f"the factory {name} is an async function; it must be a plain one")
    return app


def _misfit(factory: Callable[..., Any], call: Call) -> str:
    """Say why a factory does not take these arguments; empty where it does, or does not tell."""
    try:
        inspect.signature(factory).bind(*call.positional, **call.named)
    except TypeError as error:
        return str(error)
    except ValueError:  # some callables written in C have no signature
        pass
    return ""


def _checked(found: Any, name: str) -> Callable[..., Any]:
    if not callable(found):
        raise ApplicationError(f"{name} is of type {type(found).__name__}, which can't be called")
    return found  # type: ignore[no-any-return] # callable() was the check


def _load_file(path: str) -> Any:
    try:
        return load_file(path)
    except ApplicationError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(path, error, _hint_beside(path, error)) from error


def _hint_beside(path: str, error: BaseException) -> str:
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if not lies_beside(path, name):
        return ""
    return (
        f": {name} lies beside it, and that directory is not on the import path; write --app-dir "
        f"{Path(path).parent}"
    )


def _hint_without_loop(error: BaseException) -> str:
    """Say where what needs the event loop belongs, if that was missing."""
    # Imported here, since few starts fail.
    from uwsgibridge.telemetry.causes import lacks_loop

    if lacks_loop(error):
        return ": its event loop does not run yet; what needs the loop belongs into the lifespan's startup"
    return ""


def _failed(name: str, error: BaseException, hint: str = "") -> ApplicationError:
    """Make the error of an import that the application is at fault for."""
    if isinstance(error, SystemExit) and not isinstance(error.code, str):  # a text is the reason
        hint = ': it calls sys.exit(); what a script does belongs under if __name__ == "__main__":'
    elif (
        not hint and isinstance(error, ModuleNotFoundError) and error.name and "." not in error.name
    ):
        hint = (
            f": {error.name} is not installed in {sys.prefix}; install it there, or name the application's own "
            "environment by --virtualenv"
        )
    elif not hint:
        hint = _hint_without_loop(error)
    return ApplicationError(f"importing {name} failed{hint}", traceback_text=own_traceback(error))


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
        raise _failed(module_name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(module_name, error) from error


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
            f"{module_name} has no attribute 'application' or 'app'"
            + (_hidden_file(module, module_name) or f"; name the one to serve: {module_name}:NAME")
        )
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            public = [name for name in dir(found) if not name.startswith("_")]
            close = get_close_matches(part, public, n=1)
            hint = _hidden_file(module, module_name) or (
                f"; did you mean {close[0]!r}?" if close else ""
            )
            raise ApplicationError(f"{module_name} has no attribute {part!r}{hint}") from None
        except Exception as error:
            raise ApplicationError(
                f"looking {part!r} up in {module_name} failed", traceback_text=own_traceback(error)
            ) from error
    return found


def _hidden_file(module: Any, module_name: str) -> str:
    """Name the file that was meant where a module of the same name was imported before, such as Python's own ``site``."""
    own = getattr(module, "__file__", None)
    relative = module_name.replace(".", "/")
    for directory in sys.path:
        for path in (Path(directory, f"{relative}.py"), Path(directory, relative, "__init__.py")):
            if path.is_file():
                if own is None or not Path(own).exists() or path.samefile(own):
                    return ""
                return f": it is {own}, which Python has imported before {path}; give yours another name"
    return ""


def load_applications(app_name: str | None, settings: Settings) -> list[Application]:
    """Import the main application and the mounted ones, and then what ``--import-module`` names.

    Raises:
        SettingsError: no application is named, or two have the same prefix, or the environment that ``--virtualenv`` names can't
            be used, or the file of ``--log-config`` does not configure logging.
        ApplicationError: an application or a module can't be imported, or the hook --on-load fails.
    """
    if not app_name and not settings.mount:
        raise SettingsError("name an application to serve: uwsgibridge serve module:attribute")
    show_prints_at_once()
    with rare_collections():
        if settings.virtualenv:
            join_virtualenv(settings.virtualenv)
        if settings.uwsgi_module:
            # Imported here, since packages do something else where there is a module of that name.
            from uwsgibridge.uwsgi_module.installing import install

            install(settings)
        # The file may name classes of the application, so the import path comes first.
        put_first(settings.app_dir, settings.python_path)
        configure_by_file(settings)
        load_hook(settings.on_load, app_dir=settings.app_dir, python_path=settings.python_path)()
        applications = [load_one("", app_name, settings)] if app_name else []
        for prefix, name in map(parse_mount, settings.mount):
            try:
                applications.append(load_one(prefix, name, settings))
            except ApplicationError as error:
                raise ApplicationError(
                    f"{error} (mounted at {prefix or '/'})", traceback_text=error.traceback_text
                ) from error
        for name in settings.import_module:
            _import_beside(name, settings)
    check_prefixes(applications)
    return applications


def load_one(prefix: str, name: str, settings: Settings) -> Application:
    try:
        app = load_application(
            name,
            app_dir=settings.app_dir,
            python_path=settings.python_path,
            factory=settings.factory,
        )
    except ApplicationError as error:
        from uwsgibridge.telemetry.causes import WITHOUT_TRIO, lacks_loop  # few starts fail

        cause = error.__cause__
        if settings.loop == "trio" and cause is not None and lacks_loop(cause):
            raise ApplicationError(
                f"{error}; {WITHOUT_TRIO}", traceback_text=error.traceback_text
            ) from cause
        raise
    return describe(app, settings.interface, name=name, prefix=prefix)


def _import_beside(name: str, settings: Settings) -> None:
    try:
        target = parse_target(name)
        if target.attribute:
            raise ApplicationError(f"{name!r} is no module: leave out what stands behind the colon")
        directory = put_first(settings.app_dir, settings.python_path)
        if target.is_file:
            _load_file(target.place)
        else:
            _import_module(target.place, directory, is_bare=False)
        _refuse_patches(name)
    except ApplicationError as error:
        raise ApplicationError(
            f"{error} (--import-module)", traceback_text=error.traceback_text
        ) from error


def show_prints_at_once() -> None:
    """Have Python write what the application prints at the end of each line, as log events are written."""
    # To a pipe or a file, Python writes in large blocks.
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, replaced, or None
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # see above
