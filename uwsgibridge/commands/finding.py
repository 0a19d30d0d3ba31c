"""Finds the programs of commands, and refuses those that can't be run before anything is started."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from pathlib import Path

from uwsgibridge.config.commands import Command, parse_action, parse_command
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError


def require_programs(settings: Settings) -> None:
    """Check that each command of ``--on-start``, ``--on-ready`` and ``--sidecar`` can be run by this user.

    Raises:
        SettingsError: there is no such program, or this user may not run it.
    """
    actions = [
        *(parse_action("--on-start", it) for it in settings.on_start),
        *(parse_action("--on-ready", it) for it in settings.on_ready),
        *(parse_command("--sidecar", it) for it in settings.sidecar),
    ]
    for action in actions:
        if isinstance(action, Command):
            _require_program(action)


def environment() -> dict[str, str]:
    """Give the environment of a command: that of this process, in which the programs of its Python come first.

    So a command finds what is installed in the virtual environment of the bridge, as after its activation. Another
    environment that is activated (``--virtualenv``) goes before that.
    """
    variables = dict(os.environ)
    if sys.prefix != sys.base_prefix:
        own = str(Path(sys.executable).parent)
        path = variables.get("PATH", os.defpath)
        places = path.split(os.pathsep)
        if own not in places:
            activated = os.environ.get("VIRTUAL_ENV")
            behind = activated is not None and places[0] == str(Path(activated) / "bin")
            places.insert(1 if behind else 0, own)
            variables["PATH"] = os.pathsep.join(places)
    return variables


def why_not_started(error: OSError) -> str:
    """Say why the system refuses to start a program, as the end of a sentence."""
    if error.errno == errno.ENOEXEC:
        return "the system can't run it: a script begins with #! and its interpreter"
    if error.errno == errno.ENOENT:
        return "there is no such program, or its first line names an interpreter that is not there"
    return error.strerror or str(error)


def _require_program(command: Command) -> None:
    program = command.arguments[0]
    begin = f"{command.option} {command.text!r}"
    path = environment().get("PATH", os.defpath)
    if shutil.which(program, path=path) is not None:
        return
    if os.sep not in program:
        found = [Path(it) / program for it in path.split(os.pathsep)]
        if any(map(os.path.isfile, found)):
            raise SettingsError(f"{begin}: {program} is on PATH, but this user may not run it")
        raise SettingsError(
            f"{begin}: there is no program {program!r} on PATH; name it by its path, or write sh -c '...' for "
            "what is a shell's own"
        )
    try:
        is_directory = stat.S_ISDIR(Path(program).stat().st_mode)
    except PermissionError:
        raise SettingsError(
            f"{begin}: this user may not enter the directories of {program}"
        ) from None
    except OSError as error:
        raise SettingsError(f"{begin}: there is no program {program} ({error.strerror})") from None
    if is_directory:
        raise SettingsError(f"{begin}: {program} is a directory")
    raise SettingsError(f"{begin}: this user may not run {program}; make it executable (chmod +x)")
