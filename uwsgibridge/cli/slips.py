"""Finds typing errors, and names that other programs use, and says in one sentence what was meant."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import click

# How alike two names have to be for one to be a slip for the other. With difflib's default of 0.6, one word in
# common would be enough.
_CLOSE: Final = 0.8

# Variables with the prefix that are no options: the application of `serve`, the Nginx of `dev`, what `run-uwsgi` leaves out, the
# arguments in compose.yaml, and those by which processes of the bridge tell each other something.
_OTHER_VARIABLES: Final = (
    "APP", "NGINX", "CONFIG", "IGNORE", "LIFELINE_FD", "HERITAGE_FD", "HELD_SECRET_FD", "REHEARSAL", "REHEARSAL_PART", "TAKEOVER",
    "PID_FILE_FD", "PURE", "FILE_MODULES", "ARGS", "GUNICORN", "UWSGI", "UWSGI_SHARED", "TIMERS",
    # Of this project's own tests, which start bridges.
    "TEST_ROTATION", "REQUIRE_ACCELERATOR", "REQUIRE_APPLICATIONS", "REQUIRE_DOCKER", "ENGINE_DIR", "SOAK_SECONDS",
    "REAL_UWSGI",
)  # fmt: skip

# Kubernetes gives each container such variables for each service: for one that is called uwsgibridge, or uwsgibridge-admin.
_OF_AN_ORCHESTRATOR: Final = (
    r"UWSGIBRIDGE_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

_UWSGI_FILES: Final = (".ini", ".xml", ".yaml", ".yml", ".json")

_RUN_INSTEAD: Final = "a configuration of uWSGI runs as it is by uwsgibridge run-uwsgi"

# What says how to name the application begins so.
_NAME_THE: Final = "name the "

_OPTION: Final = r"--([a-z][a-z0-9-]*)"

# Options of uWSGI, some of which gunicorn has as well, each with the option to use here.
_ELSEWHERE: Final[Mapping[str, str]] = {
    **{it: f"{_RUN_INSTEAD} {it} FILE" for it in ("--ini", "--xml", "--yaml", "--json")},
    "--emperor": f"start a service for each file: {_RUN_INSTEAD} FILE",
    "--socket": "write --bind",
    "--uwsgi-socket": "write --bind",
    "--http": "nothing here speaks HTTP but Nginx; write --bind, and uwsgi_pass in Nginx",
    "--http-socket": "nothing here speaks HTTP but Nginx; write --bind, and uwsgi_pass in Nginx",
    "--module": "name the application as an argument: serve module:attribute",
    "--wsgi": "name the application as an argument: serve module:attribute",
    "--wsgi-file": "name the file as an argument: serve path/file.py",
    "--file": "name the file as an argument: serve path/file.py",
    "--callable": "name the application as an argument: serve module:attribute",
    "--processes": "write --workers",
    "--master": "there always is a supervisor, unless --workers 0",
    "--enable-threads": "threads of an application always run",
    "--harakiri": "write --request-timeout-seconds",
    "--listen": "write --backlog",
    "--chmod-socket": "write --socket-mode",
    "--chown-socket": "write --socket-owner",
    "--uid": "write --user",
    "--gid": "write --group",
    "--pidfile": "write --pid-file",
    "--pid": "write --pid-file",
    "--pythonpath": "write --python-path",
    "--pp": "write --python-path",
    "--home": "write --virtualenv",
    "--venv": "write --virtualenv",
    "--import": "write --import-module",
    "--lazy-apps": "it is the default; --preload is its opposite",
    "--py-autoreload": "write --reload",
    "--max-worker-lifetime": "write --worker-lifetime-seconds",
    "--reload-on-rss": "write --max-rss-bytes",
    "--evil-reload-on-rss": "write --max-rss-hard-bytes",
    "--cheaper": "write --workers-min",
    "--procname-prefix": "write --title",
    "--die-on-term": "it is so anyway",
    "--vacuum": "it is so anyway",
    "--need-app": "it is so anyway",
    "--attach-daemon": "write --sidecar",
    "--attach-daemon2": "write --sidecar",
    "--smart-attach-daemon": "write --sidecar; its command has to stay in the foreground",
    "--mule": "write --sidecar, with the command that runs it",
    "--spooler": "a task queue does that; write --sidecar for its worker",
    "--locks": "the module uwsgi has lock 0; write --uwsgi-module",
    "--cron": "a timer of systemd does that, or a scheduler as a --sidecar",
    "--exec-asap": "write --on-start exec:COMMAND",
    "--exec-pre-app": "write --on-start exec:COMMAND",
    "--exec-post-app": "write --on-ready exec:COMMAND",
    "--hook-accepting1": "write --on-ready",
    "--hook-accepting1-once": "write --on-ready",
    "--daemonize": "a service manager does that; --log-file is for the log",
    "--logto": "write --log-file",
    "--disable-logging": "it is so anyway, unless --access-log",
    "--timeout": "write --request-timeout-seconds",
    "--graceful-timeout": "write --graceful-timeout-seconds",
    "--worker-class": "the callable tells; --loop chooses the event loop",
    "--error-logfile": "write --log-file",
    "--access-logfile": "write --access-log, or --access-log-file for a file",
    "--access-logformat": "write --access-log-format",
    "--req-logger": "write --access-log, or --access-log-file for a file",
    "--logger-req": "write --access-log, or --access-log-file for a file",
    "--logformat": "write --access-log-format; --log-format is text or json, of the other log",
    "--log-4xx": "write --access-log-status 4xx",
    "--log-5xx": "write --access-log-status 5xx",
    "--log-slow": "write --access-log-slow-seconds",
    "--static-map": "write --static",
    "--check-static": "write --static /=DIR",
    "--host": "write --bind ADDRESS:PORT",
    "--port": "write --bind ADDRESS:PORT",
    "--uds": "write --bind unix:PATH",
    "--fd": "write --bind fd://NUMBER",
}


# Commands of other programs, each with the nearest command here.
_COMMANDS_ELSEWHERE: Final[Mapping[str, str]] = {
    "run": "serve",
    "gunicorn": "run-gunicorn",
    "start": "serve",
    "help": "--help",
    "version": "--version",
    "check": "ping",
    "curl": "request",
    **{
        it: f"ctl {it}"
        for it in (
            "status",
            "requests",
            "reload",
            "stop",
            "scale",
            "stacks",
            "top",
            "profile",
            "memory",
        )
    },
    "restart": "ctl reload",
}


def command_instead(name: str) -> str | None:
    """Tell which command does here what a command of that name does in other programs."""
    return _COMMANDS_ELSEWHERE.get(name)


def closest(name: str, names: Iterable[str]) -> str | None:
    """Find the name that was probably meant."""
    from difflib import get_close_matches  # imported here: most names are right

    found = get_close_matches(name, list(names), n=1, cutoff=_CLOSE)
    return found[0] if found else None


def explain(
    error: click.NoSuchOption, settled: Mapping[str, str] = MappingProxyType({})
) -> click.NoSuchOption:
    """Say which option to use in place of another server's, where that option is known.

    Args:
        error: of click; it names the option.
        settled: options of `serve` that a command sets itself, each with the sentence for who gives it.
    """
    instead = _ELSEWHERE.get(error.option_name)
    meant = instead.removeprefix("write ").split(" ")[0] if instead else error.option_name
    instead = settled.get(meant, instead)
    if instead is None:
        return error
    return click.NoSuchOption(
        error.option_name, f"No such option: {error.option_name}: {instead}", ctx=error.ctx
    )


def key_instead(key: str) -> str | None:
    """Say which key of uwsgibridge.toml to use in place of another server's option, where that is known."""
    return _written(key, lambda name: name)


def _variable_instead(name: str, prefix: str) -> str | None:
    return _written(name.lower(), lambda option: prefix + option.upper())


def _written(key: str, write: Callable[[str], str]) -> str | None:
    instead = _ELSEWHERE.get("--" + key.replace("_", "-"))
    if instead is None:
        return None
    if instead.startswith(_NAME_THE):
        return f"write {write('app')}"
    return re.sub(_OPTION, lambda found: write(found[1].replace("-", "_")), instead)


def refuse_file(app: str) -> None:
    """Refuse a configuration file in the place of an application.

    Raises:
        click.UsageError: the application is such a file.
    """
    lower = app.lower()
    if lower.endswith(_UWSGI_FILES):
        raise click.UsageError(
            f"{app!r} is no application (module:attribute); {_RUN_INSTEAD} {app}"
        )
    if lower.endswith(".toml"):
        raise click.UsageError(
            f"{app!r} is no application (module:attribute); write --config {app}"
        )


def is_of_an_orchestrator(variable: str) -> bool:
    """Whether a variable is one that Kubernetes sets for a service of that name, and no slip."""
    return re.fullmatch(_OF_AN_ORCHESTRATOR, variable) is not None


def refuse_variables(prefix: str, options: Iterable[str], environ: Mapping[str, str]) -> None:
    """Refuse a variable of the environment that looks like an option and is none, as a file of options is refused for such a key.

    Args:
        prefix: of the variables, with its underscore.
        options: the names of the options, as fields of the settings.
        environ: the environment to look at.

    Raises:
        click.UsageError: there is such a variable.
    """
    known = [*(it.upper() for it in options), *_OTHER_VARIABLES]
    for variable in environ:
        name = variable.removeprefix(prefix)
        if not variable.startswith(prefix) or name in known or is_of_an_orchestrator(variable):
            continue
        meant = closest(name, known)
        hint = f": did you mean {prefix}{meant}?" if meant else "; remove it, or name it otherwise"
        if instead := _variable_instead(name, prefix):
            hint = f": {instead}"
        raise click.UsageError(f"the environment has {variable}, which is no option{hint}")


def refuse_missing_directory() -> None:
    """Refuse to start in a directory that has been removed, where no relative path leads anywhere.

    Raises:
        click.UsageError: the working directory has been removed.
    """
    try:
        os.getcwd()  # noqa: PTH109 - only the error matters
    except OSError as error:
        raise click.UsageError(
            f"the current directory can't be used ({error.strerror}): it may have been removed; change to "
            "one that is there"
        ) from None
