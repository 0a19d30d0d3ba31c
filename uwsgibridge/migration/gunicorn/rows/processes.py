"""Rows of processes: how many there are, how they run requests, are replaced and end."""

from __future__ import annotations

import glob
from typing import Final

from uwsgibridge.migration.gunicorn.given import Given
from uwsgibridge.migration.gunicorn.paths import absolute
from uwsgibridge.migration.gunicorn.translation import (
    Row,
    Translation,
    flag,
    mapped,
    number,
    passed_over,
    refused,
    text,
    warned,
)
from uwsgibridge.migration.gunicorn.worker_class import WorkerKind, is_of_uvicorn

# Green threads are cheap and threads are not: more of them than this wait for each other.
_MOST_THREADS: Final = 100
_ASGI: Final = frozenset({WorkerKind.ASGI, WorkerKind.UVICORN})

_REASONS: Final = {
    WorkerKind.GREEN: "There are no green threads here. With --ignore worker-class, threads run the application "
    "instead, which must not patch the standard library; --threads says how many.",
    WorkerKind.FOREIGN: "Its applications have an interface of their own, and this server runs WSGI and ASGI "
    "applications. A framework that offers one of these (Sanic does ASGI) runs here with --ignore worker-class.",
    WorkerKind.UNKNOWN: "This server does not know how it runs an application. With --ignore worker-class, threads "
    "run a WSGI application, and an event loop runs an ASGI application.",
}


def _worker_class(translation: Translation, row: Row, given: Given) -> None:
    del row
    kind = translation.kind
    if kind in _REASONS:
        translation.refuse(given, _REASONS[kind])
    elif kind in _ASGI:
        translation.map(given, interface="asgi")
        if kind is WorkerKind.UVICORN and not is_of_uvicorn(given.value):
            translation.warn(
                given,
                "What this class sets for uvicorn (CONFIG_KWARGS) is not carried over: --loop, --lifespan and --mount "
                "are the options for it.",
            )
    else:
        translation.pass_over(given, "Threads of each worker run the application, see threads.")


def translate_ignored_class(translation: Translation, given: Given, kind: WorkerKind) -> None:
    """Say what runs the application where ``--ignore`` leaves the worker class out."""
    if kind is not WorkerKind.GREEN or translation.value("threads") > 1:
        translation.pass_over(given, "--ignore leaves it out.")
        return
    threads = min(max(translation.value("worker_connections"), 1), _MOST_THREADS)
    translation.warn(
        given,
        f"There are no green threads here: {threads} threads of each worker run the application instead.",
    )
    translation.map(given, threads=threads)


def _threads(translation: Translation, row: Row, given: Given) -> None:
    del row
    if translation.kind in _ASGI:
        translation.pass_over(given, "An ASGI application has one event loop in each worker.")
    elif "threads" not in translation.plan.values:
        translation.map(given, threads=max(given.value, 1))


def _workers(translation: Translation, row: Row, given: Given) -> None:
    del row
    if given.value < 1:
        translation.refuse(
            given, "gunicorn would start no worker, and answer nothing; write 1 or more."
        )
    else:
        translation.map(given, workers=given.value)


def _timeout(translation: Translation, row: Row, given: Given) -> None:
    del row
    if translation.kind is WorkerKind.SYNC:
        translation.map(given, request_timeout_seconds=float(given.value))
    else:
        # The workers of gunicorn that run several requests say that they live, however long a request takes.
        translation.map(given, heartbeat_timeout_seconds=float(given.value))


def _connections(translation: Translation, row: Row, given: Given) -> None:
    del row
    if translation.kind is WorkerKind.ASGI and given.value > 0:
        translation.map(given, max_concurrency=given.value)
    else:
        translation.pass_over(
            given, "Connections that wait have no limit here: Nginx keeps those of clients."
        )


def _extra_files(translation: Translation, row: Row, given: Given) -> None:
    del row
    if not translation.value("reload"):
        translation.pass_over(given, "It counts with reload alone.")
        return
    for name in given.value:
        if glob.has_magic(name):
            translation.map(given, reload_include=(name.rpartition("/")[2],))
        else:
            translation.map(given, touch_reload=(_absolute(translation, name),))


def _pid_file(translation: Translation, row: Row, given: Given) -> None:
    del row
    if given.value:
        translation.map(given, pid_file=_absolute(translation, given.value))
    else:
        translation.pass_over(given, "It is off.")


def _absolute(translation: Translation, name: str) -> str:
    return absolute(name, translation.reading.directory)


_EXPLAIN: Final = "Write run-gunicorn --explain, which starts nothing."

ROWS: Final = (
    *mapped("workers", "`--workers`; without it `WEB_CONCURRENCY`, else 1", _workers),
    *mapped("worker_class",
            "`--threads` for sync and gthread, `--interface asgi` for asgi and uvicorn's workers; others are refused, or "
            "become threads with `--ignore worker-class`", _worker_class),
    *mapped("threads", "`--threads`; without it 1", _threads),
    *mapped("timeout",
            "`--request-timeout-seconds` for sync, whose requests it limits; else `--heartbeat-timeout-seconds`; "
            "without it 30", _timeout),
    *number("graceful_timeout", "graceful_timeout_seconds"),
    *mapped("worker_connections", "`--max-concurrency`, for worker_class asgi", _connections),
    *number("max_requests", "max_requests"),
    *number("max_requests_jitter", "max_requests_jitter"),
    *flag("preload_app", "preload"),
    *flag("reload", "reload"),
    *passed_over("reload_engine", "The package watchfiles watches files."),
    *mapped("reload_extra_files", "`--touch-reload` for files, `--reload-include` for patterns", _extra_files),
    *warned("spew", "Nothing prints each line that runs; uwsgibridge ctl stacks shows what each thread does."),
    *refused("check_config print_config", _EXPLAIN),
    *warned("daemon",
            "The process stays in the foreground, where a service manager (systemd's Type=exec, Docker) has it."),
    *mapped("pidfile", "`--pid-file`", _pid_file),
    *text("user", "user"),
    *text("group", "group"),
    *passed_over("initgroups", "With --user, a process has all groups of that user."),
    *text("proc_name", "title"),
    *passed_over("default_proc_name", "--title is what ps shows."),
    *passed_over("worker_tmp_dir", "Workers tell that they live without a file."),
    *passed_over("tmp_upload_dir", "Nothing is stored on the way."),
    *passed_over("sendfile", "Files are sent by the kernel (sendfile), or by Nginx (--offload)."),
    *passed_over("control_socket control_socket_mode control_socket_disable",
                 "uwsgibridge ctl steers a running server: --control-socket."),
    *passed_over("config", "The file has been read."),
)  # fmt: skip
