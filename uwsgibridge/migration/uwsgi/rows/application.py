"""Rows of the application: what is imported, from where, and in which environment."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Final

from uwsgibridge.migration.argument import as_argument
from uwsgibridge.migration.plan import Setting, Verdict
from uwsgibridge.migration.prometheus import MULTIPROC_VARIABLES
from uwsgibridge.migration.uwsgi import meaning
from uwsgibridge.migration.uwsgi.translation import (
    Row,
    Translation,
    last_of,
    mapped,
    passed_over,
    refused,
    text_of,
    texts,
    warned,
)

_MODULE: Final = ("module", "wsgi", "w")
_FILE: Final = ("wsgi-file", "file")
_CALLABLE: Final = "application"
_NO_FILE: Final = (
    "The name of a file has to end in .py or .wsgi here: rename it, or make a link to it."
)


def _chdir(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    translation.map(last, row.group, chdir=meaning.path(text_of(last), translation.start))


def _module(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    name = text_of(last)
    module, colon, attribute = name.partition(":")
    if not attribute:
        attribute = _callable(translation)
    elif not colon:
        attribute = _CALLABLE
    _set_app(translation, last, row, f"{module}:{attribute}")


def _file(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    if translation.last(*_MODULE) is not None:
        translation.warn(
            last,
            "There is a module line as well, which is tried first; the file would be served only if that failed.",
            row.group,
        )
        return
    attribute = _callable(translation)
    if attribute.endswith(")"):
        translation.refuse(
            last,
            f"uWSGI can't call {attribute} of a file, and answers each request with 500; name a module: "
            "module = NAME.",
            row.group,
        )
        return
    path = _file_name(translation, text_of(last))
    if path is None:
        translation.refuse(last, _NO_FILE, row.group)
    else:
        _set_app(translation, last, row, f"{path}:{attribute}")


def _file_name(translation: Translation, value: str) -> str | None:
    """Give the name of a file as APP has it; None where APP would take it for a module.

    It stays relative: the name of the module that uWSGI makes of it has the path as it was written.
    """
    if value.endswith(".py"):
        return value
    return meaning.path(value, translation.directory) if value.endswith(".wsgi") else None


def _callable(translation: Translation) -> str:
    setting = translation.last("callable")
    return _CALLABLE if setting is None else text_of(setting)


def _callable_row(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        translation.pass_over(setting, "It is a part of APP, see module and wsgi-file.", row.group)


def _set_app(translation: Translation, setting: Setting, row: Row, app: str) -> None:
    translation.plan.app = app
    translation.plan.origins["app"] = setting
    translation.find_mapped(setting, row.group, f"APP {app}")


def _mount(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    is_routed = translation.is_on("manage-script-name")
    for setting in settings:
        prefix, equals, name = text_of(setting).partition("=")
        if not equals or not prefix.startswith("/") or not name:
            translation.refuse(
                setting,
                "It is not of the form /prefix=module:callable or /prefix=file.py; a host or a variable before the "
                "prefix is not supported: give each host a service of its own.",
                row.group,
            )
            continue
        app = _mounted(translation, row, setting, name)
        if app is None:
            continue
        if prefix == "/" or not is_routed:
            # Without manage-script-name, uWSGI asks the first application, but where SCRIPT_NAME is another mount's prefix.
            _mount_first(translation, row, setting, app, prefix)
            continue
        if (
            translation.plan.app is None
            and translation.last(*_MODULE, *_FILE) is None
            and not translation.is_on("no-default-app")
        ):
            # What no prefix matches goes to the first application that uWSGI has loaded.
            translation.plan.app = app
            translation.plan.origins["app"] = setting
            text = f"APP {app}, for what no mount has: it is the first application"
            translation.find_mapped(setting, row.group, text)
        if prefix.endswith("/"):
            translation.warn(
                setting,
                f"Under uWSGI the slash belongs to SCRIPT_NAME, and PATH_INFO has none; here it is {prefix.rstrip('/')}.",
                row.group,
            )
        translation.map(setting, row.group, mount=(f"{prefix.rstrip('/')}={app}",))


def _mount_first(
    translation: Translation, row: Row, setting: Setting, app: str, prefix: str
) -> None:
    if translation.plan.app is None and translation.last(*_MODULE, *_FILE) is None:
        _set_app(translation, setting, row, app)
        if prefix != "/":
            translation.warn(
                setting,
                "Without manage-script-name, uWSGI asks this application for every path, and so does this server.",
                row.group,
            )
    elif prefix == "/":
        translation.warn(
            setting,
            "uWSGI asks the first application for every path that no mount has, and never this one.",
            row.group,
        )
    else:
        translation.warn(
            setting,
            f"uWSGI asks it where Nginx sends SCRIPT_NAME {prefix}, and the first application for all else; this server "
            "asks the first one for every path. If Nginx sends that, write manage-script-name = true.",
            row.group,
        )


def _mounted(translation: Translation, row: Row, setting: Setting, name: str) -> str | None:
    """Give the APP of what is mounted: a file, or a module with a callable."""
    file = _file_name(translation, name)
    if file is not None:
        return f"{file}:{_callable(translation)}"
    module, _, attribute = name.partition(":")
    if module and attribute:
        return name
    # uwsgi_mount_loader looks for a colon, and takes no callable from elsewhere.
    translation.refuse(
        setting,
        f"uWSGI loads nothing for it, and answers with 500: name the callable, such as {module or 'module'}:"
        f"{_callable(translation)}, or a file that ends in .py.",
        row.group,
    )
    return None


def _no_default(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        if not meaning.is_true(setting.value):
            translation.pass_over(setting, "It is off.", row.group)
        elif translation.last(*_MODULE, *_FILE) is None and translation.is_on("manage-script-name"):
            translation.pass_over(
                setting, "A path that no mount has gets 404 here, and 500 under uWSGI.", row.group
            )
        else:
            translation.refuse(setting, row.text, row.group)


def _python_path(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    # uWSGI puts one after the other in front, so that the last one comes first.
    found: list[str] = []
    for setting in settings:
        place = _place(translation, setting)
        # uWSGI takes it for a pattern of file names (uwsgi_opt_pythonpath).
        found_here = sorted(glob(place))  # noqa: PTH207 - the pattern is absolute
        places = [it for it in found_here or [place] if Path(it).exists()]
        if not places:
            translation.warn(setting, f"There is no {place}, and it is left out.", row.group)
            continue
        found += places
        shown = " ".join(as_argument("python_path", it) for it in reversed(places))
        translation.find_mapped(setting, row.group, shown)
        translation.plan.note_origin("python_path", setting, adds=True)
    if found:
        translation.plan.values["python_path"] = tuple(reversed(found))


def _place(translation: Translation, setting: Setting) -> str:
    return meaning.path(text_of(setting), translation.directory)


def _virtualenv(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    translation.map(last, row.group, virtualenv=_place(translation, last))


def _environment(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    del row
    for setting in settings:
        value = text_of(setting)
        name, equals, rest = value.partition("=")
        if name != name.strip():
            translation.warn(
                setting,
                f"uWSGI sets a variable whose name has a space at its end, {name!r}, and so does this server; leave "
                "the spaces around the second = out.",
                "env",
            )
        if meaning.has_comment(rest) and equals:
            translation.warn(
                setting,
                f"uWSGI has no comments behind values: the variable becomes {rest!r}.",
                "env",
            )
        translation.map(setting, "env", env=(value,))
        if name in MULTIPROC_VARIABLES:
            translation.find_mapped(
                setting,
                "env",
                f"instead of it, better: {as_argument('prometheus_multiproc_dir', rest)}, which also empties the directory at a start, and "
                "folds what ended workers leave there",
            )


def _import(translation: Translation, value: str) -> str:
    if value.endswith(".py") or "/" in value:
        return meaning.path(value, translation.directory)
    return value


def _plugins(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        names = [it.strip() for it in text_of(setting).split(",") if it.strip()]
        others = [it for it in names if not it.startswith(_NEEDED_PLUGINS)]
        if others:
            translation.warn(
                setting, f"What the plugin {', '.join(others)} does is not there.", row.group
            )
        else:
            translation.pass_over(setting, "It is built in.", row.group)


_NEEDED_PLUGINS: Final = (
    "python", "http", "logfile", "logsocket", "logpipe", "corerouter", "router_", "syslog", "rsyslog", "cheaper_",
    "0:python", "gevent", "stats_",
)  # fmt: skip


ROWS: Final = (
    mapped("chdir", "`--chdir`", _chdir),
    mapped("module wsgi w", "APP, `module:callable`", _module),
    mapped("wsgi-file file", "APP, `path/file.py:callable`", _file),
    mapped("callable", "a part of APP", _callable_row),
    mapped("mount", "`--mount`, with manage-script-name", _mount),
    passed_over("manage-script-name", "--mount always moves the prefix to SCRIPT_NAME."),
    mapped("pythonpath python-path pp", "`--python-path`; uWSGI puts the last one first", _python_path),
    mapped("virtualenv home venv H pyhome", "`--virtualenv`", _virtualenv),
    mapped("env", "`--env`", _environment),
    refused("envdir early-envdir", "Write its variables into a file of lines NAME=VALUE, and name that by --env-file in "
            "uwsgibridge.toml or by UWSGIBRIDGE_ENV_FILE."),
    warned("unenv", "The variable stays: start by env -u NAME, or write UnsetEnvironment= in the unit of systemd."),
    warned("reload-on-exception reload-on-exception-type reload-on-exception-value reload-on-exception-repr",
           "An exception is a 500 and an event of the log, and its worker goes on."),
    texts("import shared-import pyimport shared-pyimport shared-py-import python-import shared-python-import", "import_module", _import),
    mapped("plugin plugins need-plugin need-plugins", "nothing for what is built in; a warning for others", _plugins),
    passed_over("plugin-dir plugins-dir plugins-list autoload", "There are no plugins to look for."),
    passed_over("py-call-osafterfork py-call-uwsgi-fork-hooks", "Python's fork hooks are always called."),
    passed_over("py-sharedarea python-version", "It changes nothing of what is served."),
    warned("optimize O", "PYTHONOPTIMIZE=1 in the environment of the start leaves assert out."),
    passed_over("wsgi-accept-buffer wsgi-accept-buffers", "Items of an answer's body are bytes here, see PEP 3333."),
    passed_over("catch-exceptions", "An error of the application gives 500; its traceback is in the log."),
    passed_over("wsgi-env-behaviour wsgi-env-behavior wsgi-disable-file-wrapper wsgi-strict start_response-nodelay",
                "Each request has an environ of its own."),
    warned("py-tracebacker", "uwsgibridge ctl stacks shows what each thread does."),
    warned("reload-os-env", "A reload keeps the environment; --env and --env-file are read at the start."),
    warned("python-worker-override", "It is not needed: the application runs in this server's workers."),
    refused("paste ini-paste ini-paste-logged paste-logger",
            "Write a module that calls paste.deploy.loadapp, and name it: module = NAME:application."),
    refused("chdir2", "Write chdir, or change the directory in the application: it is the directory of workers alone."),
    refused("pyargv", "An application's sys.argv is this command line; read what it needs from the environment."),
    refused("pymodule-alias", "Make a module of that name that imports the other one."),
    refused("eval", "Put the code into a file, and name it: wsgi-file = FILE."),
    refused("web3 pump wsgi-lite pecan", "Only WSGI 1.0 (PEP 3333) and ASGI applications run here."),
    refused("vhost vhost-host", "Give each host a service of its own, and let Nginx choose by server_name."),
    Row(names=("no-default-app",), verdict=Verdict.REFUSED, is_flag=True, translate=_no_default,
        text="Name each prefix by mount, with manage-script-name: a path that none has gets 404 where there is no module line."),
)  # fmt: skip
