"""The directory and the environment that a service runs in: ``--chdir``, ``--env``, ``--env-file``, ``--virtualenv``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from uwsgibridge.cli.slips import is_of_an_orchestrator
from uwsgibridge.config.env_file import environment_changes
from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS, Settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.system import starting_place

_PREFIX: Final = "UWSGIBRIDGE_"

# What programs read as they start: Python, the dynamic loader, and the C library's allocator. A process that was forked
# from this one would not have read it.
_READ_AT_START: Final = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")


def enter_directory(directory: str) -> str:
    """Change to the directory of ``--chdir``, if there is one.

    Returns:
        The directory as an absolute path, for processes that are started later.

    Raises:
        click.UsageError: it can't be entered.
    """
    if not directory:
        return ""
    try:
        return starting_place.change_directory(directory)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise click.UsageError(f"--chdir {directory}: {reason}") from None


def change_environment(settings: Settings) -> None:
    """Set what ``--env-file`` and ``--env`` say, and activate ``--virtualenv``, for this process and all that it starts.

    ``--prometheus-multiproc-dir`` is in the environment as well: prometheus_client looks for it there.

    Raises:
        SettingsError: a file can't be read, or the environment names another such directory.
    """
    changes = environment_changes(settings.env_file, settings.env)
    variables = {name: value for name, (_, value) in changes.items()}
    if settings.virtualenv:
        directory = Path(settings.virtualenv).absolute()
        path = variables.get("PATH") or os.environ.get("PATH", os.defpath)
        variables["VIRTUAL_ENV"] = str(directory)
        variables["PATH"] = f"{directory / 'bin'}{os.pathsep}{path}"
    if settings.prometheus_multiproc_dir:
        from uwsgibridge.multiproc.variable import VARIABLE  # imported here: few have it

        multiproc = str(Path(settings.prometheus_multiproc_dir).absolute())
        named = variables.get(VARIABLE) or multiproc
        if str(Path(named).absolute()) != multiproc:
            raise SettingsError(
                f"{changes[VARIABLE][0]}: {VARIABLE} is {variables[VARIABLE]}, and --prometheus-multiproc-dir "
                f"is {multiproc}: leave the variable out"
            )
        variables[VARIABLE] = multiproc
    starting_place.change_environment(variables)


def variables_read_at_start() -> list[str]:
    """Name the variables that were changed and that a program reads as it starts."""
    return sorted(it for it in starting_place.changed_variables() if it.startswith(_READ_AT_START))


def check_environment(settings: Settings) -> None:
    """Refuse files that can't be read, and variables that would be options if they had been there earlier.

    Raises:
        SettingsError: a file or a variable is refused.
    """
    for name, (source, value) in environment_changes(settings.env_file, settings.env).items():
        if value == os.environ.get(name):
            continue
        if name.startswith(_PREFIX) and not is_of_an_orchestrator(name):
            option = name.removeprefix(_PREFIX).lower()
            instead = f"write {option_name(option)}" if option in OPTIONS else "leave it out"
            raise SettingsError(
                f"{source}: {name} comes too late: options are read before; {instead}, or set the variable where this "
                "program is started"
            )
        for option, row in OPTIONS.items():
            if name == row.default_variable and _is_default(option):
                raise SettingsError(
                    f"{source}: {name} comes too late to be the default of {option_name(option)}: write that option"
                )


def _is_default(option: str) -> bool:
    ctx = click.get_current_context(silent=True)
    return ctx is not None and ctx.get_parameter_source(option) == ParameterSource.DEFAULT
