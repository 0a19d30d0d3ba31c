"""Rows of hooks: functions that gunicorn calls at certain moments."""

from __future__ import annotations

import shlex
import sys
from typing import Final

from uwsgibridge.migration.gunicorn.given import Given
from uwsgibridge.migration.gunicorn.paths import absolute
from uwsgibridge.migration.gunicorn.portable import Opaque
from uwsgibridge.migration.gunicorn.translation import Row, Translation, mapped, refused, warned
from uwsgibridge.migration.prometheus import MARK_DEAD, MULTIPROC_VARIABLE

HOOKS: Final = "uwsgibridge.migration.gunicorn.hooks"
ON_LOAD: Final = f"{HOOKS}:on_load"
MAKE_LOGGERS: Final = "uwsgibridge.migration.gunicorn.loggers:on_load"
_ON_FORK: Final = f"{HOOKS}:on_fork"
_ON_WORKER_EXIT: Final = f"{HOOKS}:on_worker_exit"


def _post_fork(translation: Translation, row: Row, given: Given) -> None:
    del row
    if translation.value("preload_app"):
        translation.set(given, "--on-fork: each worker calls it before it serves", on_fork=_ON_FORK)
    else:
        translation.set(given, "--on-load: each worker calls it before it imports the application")


def _post_worker_init(translation: Translation, row: Row, given: Given) -> None:
    del row
    translation.set(given, "--on-fork: each worker calls it before it serves", on_fork=_ON_FORK)


def _pre_fork(translation: Translation, row: Row, given: Given) -> None:
    _post_fork(translation, row, given)
    translation.warn(
        given, "Each worker calls it after the fork and before post_fork, not the supervisor."
    )


def _worker_exit(translation: Translation, row: Row, given: Given) -> None:
    del row
    translation.set(
        given,
        "--on-worker-exit: each worker calls it when it has drained",
        on_worker_exit=_ON_WORKER_EXIT,
    )


def _child_exit(translation: Translation, row: Row, given: Given) -> None:
    _worker_exit(translation, row, given)
    if not (isinstance(given.value, Opaque) and MARK_DEAD in given.value.names):
        translation.warn(
            given, "Each worker calls it as it ends, and nobody does for a worker that was killed."
        )
        return
    directory = _multiproc_directory(translation)
    if directory:
        # Of a killed worker as well, which does not call the hook.
        translation.map(given, prometheus_multiproc_dir=directory)
    else:
        translation.warn(
            given,
            "Each worker calls it as it ends, and nobody does for a worker that was killed: --prometheus-multiproc-dir "
            "sets PROMETHEUS_MULTIPROC_DIR, and cleans up after all workers.",
        )


def _multiproc_directory(translation: Translation) -> str:
    """Find the directory of prometheus_client's files; empty where nobody names one."""
    found = translation.reading.multiproc_dir
    for entry in translation.value("raw_env"):
        name, _, value = entry.partition("=")
        if name == MULTIPROC_VARIABLE:
            found = value
    return absolute(found, translation.reading.directory) if found else ""


def _once(field: str, when: str) -> tuple[Row, ...]:
    name = "on_starting" if field == "on_start" else "when_ready"

    def translate(translation: Translation, row: Row, given: Given) -> None:
        command = f"exec:{shlex.quote(sys.executable)} -m {HOOKS} {row.name}"
        translation.set(given, f"--{field.replace('_', '-')}: {when}", **{field: (command,)})
        translation.warn(
            given,
            "A process of its own calls it, and ends then: threads that it starts and what it changes in memory are "
            "gone; files, databases and services keep what it does.",
        )

    return mapped(
        name,
        f"`--{field.replace('_', '-')}`, with a warning: a process of its own calls it",
        translate,
    )


_PER_REQUEST: Final = (
    "Nothing is called for each request here: put it into a middleware around the application, which has the same "
    "moments."
)

ROWS: Final = (
    *_once("on_start", "it is called once, before the application is loaded"),
    *_once("on_ready", "it is called once, when all workers are ready"),
    *mapped("pre_fork", "`--on-load` or `--on-fork`, with a warning: each worker calls it before post_fork", _pre_fork),
    *mapped("post_fork", "`--on-load` before the application is imported; `--on-fork` with preload_app", _post_fork),
    *mapped("post_worker_init", "`--on-fork`", _post_worker_init),
    *mapped("worker_exit", "`--on-worker-exit`", _worker_exit),
    *mapped("child_exit",
            "`--on-worker-exit`, with a warning: the worker itself calls it; with `mark_process_dead` in it "
            "`--prometheus-multiproc-dir` as well", _child_exit),
    *warned("worker_int", "Nothing calls it: workers end by --graceful-timeout-seconds, then --on-worker-exit is called."),
    *warned("worker_abort",
            "Nothing calls it: the stack of what takes too long is in the log, and the client gets 504."),
    *warned("on_reload", "Nothing calls it: at a reload, each new worker calls --on-fork, and each old one --on-worker-exit."),
    *warned("on_exit", "Nothing calls it: --on-worker-exit is called in each worker, and ExecStopPost= of systemd runs a command."),
    *warned("pre_exec", "Nothing calls it: SIGUSR2 replaces the program in its own way."),
    *warned("nworkers_changed", "Nothing calls it: the log tells when their number changes."),
    *refused("pre_request post_request", _PER_REQUEST),
)  # fmt: skip
