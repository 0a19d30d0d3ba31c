"""Puts the modules where an application finds them, and calls what it has registered.

Nothing of this is done without ``--uwsgi-module``: packages look whether there is a module ``uwsgi``, and do something
else where there is one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from uwsgibridge.config.settings import Settings
from uwsgibridge.uwsgi_module import decorators, uwsgi
from uwsgibridge.uwsgi_module.place import Place, Role, read_place
from uwsgibridge.uwsgi_module.schedule import Schedule
from uwsgibridge.uwsgi_module.shared_file import SharedFile


@dataclass(frozen=True, slots=True, eq=False)
class Installed:
    """The modules of this process, and what they know.

    Attributes:
        place: what this process is.
        schedule: what the application has registered.
        shared: what the processes of a supervisor share.
        module: the module ``uwsgi``.
    """

    place: Place
    schedule: Schedule
    shared: SharedFile
    module: ModuleType


_installed: Final[list[Installed]] = []


def install(settings: Settings) -> Installed:
    """Have ``import uwsgi`` and ``import uwsgidecorators`` find the modules; once in a process.

    Args:
        settings: of the server.
    """
    if not _installed:
        place, schedule = read_place(settings), Schedule()
        shared = SharedFile(place.shared_file)
        module = uwsgi.make_module(place, schedule, shared)
        sys.modules["uwsgi"] = module
        sys.modules["uwsgidecorators"] = decorators.make_module(module)
        os.register_at_fork(after_in_child=shared.forget_locks)
        _installed.append(Installed(place, schedule, shared, module))
    return _installed[0]


def become_worker(number: int) -> None:
    """Note that this process has become a worker.

    Args:
        number: from 1 on.
    """
    if _installed:
        place = _installed[0].place
        place.role, place.number = Role.WORKER, number


def become_timers() -> Installed:
    """Note that this process runs timers and crons, and give what it has installed."""
    installed = _installed[0]
    installed.place.role = Role.TIMERS
    return installed


def has_schedule() -> bool:
    """Whether the application has registered timers or crons."""
    return bool(_installed) and not _installed[0].schedule.is_empty


def call_post_fork_hook() -> None:
    """Call what the application wants to have called in each worker before it serves."""
    _call("post_fork_hook")


def call_atexit() -> None:
    """Call what the application wants to have called when a worker ends."""
    _call("atexit")


def _call(name: str) -> None:
    hook = vars(_installed[0].module).get(name) if _installed else None
    if hook is not None:
        hook()
