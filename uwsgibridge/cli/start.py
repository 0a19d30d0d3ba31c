"""The steps that prepare the process of a service; `uwsgibridge.cli.serve` has their order."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import LogFileError, PidFileError, SettingsError
from uwsgibridge.supervisor.spare_template import SpareTemplate
from uwsgibridge.system.collector import rare_collections
from uwsgibridge.system.pid_file import PidFile
from uwsgibridge.system.privileges import drop_privileges, resolve_user
from uwsgibridge.system.process_title import set_title
from uwsgibridge.telemetry.appending import open_to_append
from uwsgibridge.telemetry.line_stream import say
from uwsgibridge.telemetry.log_file import open_log_file
from uwsgibridge.telemetry.starter import keeping_starter

# Descriptors for sockets, event loops, and three for each of some workers. An application needs more of its own.
_LEAST_DESCRIPTORS: Final = 64


def prepare_process(settings: Settings, *, upgraded: bool = False) -> Callable[[], None]:
    """Set what comes before anything else: limit on descriptors, umask, log file, title.

    Args:
        settings: say which of them.
        upgraded: whether this program has taken over a process that serves: nothing may end it then.

    Returns:
        What is to be called once the sockets are open; it drops privileges.

    Raises:
        SettingsError, LogFileError: one of them can't be had.
    """
    _raise_descriptor_limit()
    user = resolve_user(settings.user, settings.group)
    if settings.umask:
        os.umask(int(settings.umask, 8))
    try:
        if settings.log_file:
            with contextlib.nullcontext() if upgraded else keeping_starter():
                open_log_file(Path(settings.log_file).absolute(), user)
        if settings.access_log_file:
            # Workers write to it, and open it by themselves: here it is made for their user.
            path = Path(settings.access_log_file).absolute()
            os.close(open_to_append("--access-log-file", path, user))
    except LogFileError as error:
        if not upgraded:
            raise
        say(f"Error: {error}")  # to the old file, which stays
    set_title(settings.title, "supervisor" if settings.workers else "worker")

    def after_bind() -> None:
        if user is not None:
            drop_privileges(*user)

    return after_bind


@contextlib.contextmanager
def hold_pid_file(settings: Settings, *, upgraded: bool = False) -> Iterator[None]:
    """Hold the pid file, where there is to be one.

    Args:
        settings: name the file.
        upgraded: as for `prepare_process`.

    Raises:
        PidFileError: it can't be had.
    """
    with contextlib.ExitStack() as stack:
        if settings.pid_file:
            try:
                stack.enter_context(PidFile(settings.pid_file))
            except PidFileError as error:
                if not upgraded:
                    raise
                say(f"Error: {error}")
        yield


def fork_spare_template(settings: Settings) -> SpareTemplate | None:
    """Fork a process that becomes the first template, after all has been imported that both need.

    Args:
        settings: of the supervisor.

    Returns:
        The spare template; None where there is to be no template, or where it has to be started anew: after a
        change of the user, only an exec gives a process its core dumps and its files in ``/proc`` back
        (prctl(2), PR_SET_DUMPABLE), and with ``--virtualenv`` the application may have packages of its own that this process has
        imported for its command line.
    """
    user = resolve_user(settings.user, settings.group)
    if (
        not settings.workers
        or settings.virtualenv
        or user not in {None, (os.geteuid(), os.getegid())}
    ):
        return None
    # Only here: with `--workers 0` nothing of a template is needed.
    with rare_collections():
        from uwsgibridge.worker.spare_template import become_template

    return SpareTemplate.fork(become_template)


def _raise_descriptor_limit() -> None:
    # Systems have a soft limit of 1,024 for the sake of select(2), which the bridge does not use.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1_048_576
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _LEAST_DESCRIPTORS:
        raise SettingsError(
            f"the limit on open files is {soft}, and at least {_LEAST_DESCRIPTORS} are needed: raise it (ulimit "
            "-n, LimitNOFILE= of systemd, ulimits: of Compose)"
        )
