"""The sidecar that runs timers and crons of the module ``uwsgi``, and what it shares with the workers."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from uwsgibridge.config.commands import Command
from uwsgibridge.config.settings import Settings
from uwsgibridge.control.path import default_control_path, remove_control_directory
from uwsgibridge.link.messages import Blueprint
from uwsgibridge.supervisor.template_process import python_command
from uwsgibridge.system.privileges import resolve_user
from uwsgibridge.uwsgi_module.place import SHARED_VARIABLE, write_shared
from uwsgibridge.uwsgi_module.shared_file import SUFFIX, SharedFile, remove_unused

NAME: Final = "uwsgi-timers"

# The variable of its environment that has its blueprint.
BLUEPRINT_VARIABLE: Final = "UWSGIBRIDGE_TIMERS"

_MODULE: Final = "uwsgibridge.worker.timers"

# To make the shared file, since other servers may remove its directory meanwhile.
_ATTEMPTS: Final = 10


def make_command(app_name: str | None, settings: Settings) -> Command:
    """Make the command of the sidecar.

    Args:
        app_name: the application, if any beside the mounts.
        settings: of the workers.
    """
    # The environment has the variables already, and it opens no socket.
    settings = replace(settings, env=(), env_file=())
    blueprint = Blueprint(app_name, settings, -1, tuple(sys.argv))
    arguments = (*python_command(), "-m", _MODULE)
    return Command(
        "--uwsgi-module",
        shlex.join(arguments),
        arguments,
        {BLUEPRINT_VARIABLE: blueprint.encode().decode()},
    )


@contextlib.contextmanager
def sharing_file(settings: Settings, *, is_upgrade: bool) -> Iterator[None]:
    """Have all processes that are started in a block share a file.

    Args:
        settings: name the control socket.
        is_upgrade: whether the file of the program before is theirs.
    """
    with _acting_as(resolve_user(settings.user, settings.group)):
        # In the directory of the control socket, which nobody else can write to.
        control = default_control_path(os.getpid())
        path = control.with_suffix(SUFFIX) if control is not None else None
        if path is not None and not is_upgrade:
            remove_unused(path.parent)
        shared = SharedFile(str(path or ""))
        if path is not None:
            _make(shared)
    os.environ[SHARED_VARIABLE] = write_shared(
        os.getpid(), _control_socket(settings, control), str(path or "")
    )
    try:
        yield
    finally:
        _remove(path)
        shared.close()
        remove_control_directory()


@contextlib.contextmanager
def _acting_as(user: tuple[int, int] | None) -> Iterator[None]:
    """Have root do something as the user that the server becomes when its sockets are open."""
    if user is None or os.geteuid() != 0:
        yield
        return
    group = os.getegid()
    os.setegid(user[1])
    os.seteuid(user[0])
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _make(shared: SharedFile) -> None:
    """Make the file, so that its directory is not empty: a server that ends removes an empty one."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(RuntimeError):
            shared.open()
            return
        default_control_path(os.getpid())  # somebody has removed the directory that it has made


def _control_socket(settings: Settings, default: Path | None) -> str:
    named = settings.control_socket
    if named == "none":
        return ""
    return str(Path(named).absolute() if named else default or "")


def _remove(path: Path | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            path.unlink()
