"""Rows of the application: what is imported, from where, and in which environment."""

from __future__ import annotations

from typing import Any, Final

from uwsgibridge.migration.gunicorn.given import Given
from uwsgibridge.migration.gunicorn.paths import absolute
from uwsgibridge.migration.gunicorn.translation import (
    Row,
    Translation,
    mapped,
    passed_over,
    refused,
)
from uwsgibridge.migration.gunicorn.worker_class import WorkerKind

_CALLABLE: Final = "application"
SCRIPT_NAME: Final = "SCRIPT_NAME"


def translate_app(translation: Translation) -> None:
    """Set what is served: the argument, else wsgi_app; with SCRIPT_NAME, below that path alone."""
    given = translation.reading.app or translation.reading.find("wsgi_app")
    if given is None or not given.value:
        return
    module, colon, attribute = given.value.partition(":")
    app = f"{module}:{attribute if colon else _CALLABLE}"
    prefix = _script_name(translation)
    if prefix:
        translation.map(given, mount=(f"{prefix}={app}",))
        return
    translation.plan.app = app
    translation.plan.origins["app"] = given.setting
    translation.set(given, f"APP {app}")


def _script_name(translation: Translation) -> str:
    """Give the path that gunicorn's WSGI workers take off each request's path; empty for none."""
    if translation.kind in {WorkerKind.ASGI, WorkerKind.UVICORN}:
        return ""
    name = translation.reading.script_name
    for entry in translation.value("raw_env"):
        variable, _, value = entry.partition("=")
        if variable == SCRIPT_NAME:
            name = value
    return str(name).rstrip("/")


def _wsgi_app(translation: Translation, row: Row, given: Given) -> None:
    del row
    if translation.reading.app is not None:
        translation.pass_over(given, "The command line names another application.")


def _chdir(translation: Translation, row: Row, given: Given) -> None:
    del row
    directory = translation.reading.directory
    if directory == absolute(".", translation.reading.start):
        translation.pass_over(given, "The server was started there.")
    else:
        translation.map(given, chdir=directory)


def _python_path(translation: Translation, row: Row, given: Given) -> None:
    del row
    if not given.value:
        translation.pass_over(given, "It is off.")
        return
    directory = translation.reading.directory
    # gunicorn puts one after the other in front, so that the last one comes first.
    names = reversed(given.value.split(","))
    translation.map(given, python_path=tuple(absolute(it, directory) for it in names))


def _environment(translation: Translation, row: Row, given: Given) -> None:
    del row
    if not given.value:
        translation.pass_over(given, "It is empty.")
    for entry in given.value:
        if "=" not in entry:
            translation.refuse(given, f"gunicorn does not start with {entry!r}: write NAME=VALUE.")
        else:
            translation.map(given, env=(entry,))


def _asgi_choice(field: str) -> Any:
    def translate(translation: Translation, row: Row, given: Given) -> None:
        del row
        if translation.kind is WorkerKind.ASGI:
            translation.map(given, **{field: str(given.value).strip().lower()})
        else:
            translation.pass_over(given, "It is about gunicorn's ASGI worker alone.")

    return translate


def _websocket(translation: Translation, row: Row, given: Given) -> None:
    del row
    if translation.kind is WorkerKind.ASGI:
        translation.map(given, websocket_max_message_bytes=given.value)
    else:
        translation.pass_over(given, "It is about gunicorn's ASGI worker alone.")


_PASTE: Final = "Write a module that calls paste.deploy.loadapp, and name it: module:application."

ROWS: Final = (
    *mapped("wsgi_app", "APP, where the command line names none", _wsgi_app),
    *mapped("chdir", "`--chdir`", _chdir),
    *mapped("pythonpath", "`--python-path`; gunicorn puts the last one first", _python_path),
    *mapped("raw_env", "`--env`; `SCRIPT_NAME` becomes `--mount`", _environment),
    *refused("paste", _PASTE),
    *passed_over("raw_paste_global_conf", "It is about paste."),
    *refused("root_path", "Mount the application there: --mount /path=APP."),
    *mapped("asgi_loop", "`--loop`, for worker_class asgi", _asgi_choice("loop")),
    *mapped("asgi_lifespan", "`--lifespan`, for worker_class asgi", _asgi_choice("lifespan")),
    *mapped("websocket_max_message_size", "`--websocket-max-message-bytes`, for worker_class asgi", _websocket),
    *passed_over("asgi_disconnect_grace_period",
                 "A request whose client has left ends after --gone-client-send-seconds."),
    *refused("dirty_apps", "Nothing like it is here: run such tasks in a process of their own (--sidecar)."),
    *passed_over("dirty_workers dirty_timeout dirty_threads dirty_graceful_timeout on_dirty_starting dirty_post_fork "
                 "dirty_worker_init dirty_worker_exit", "It is about dirty_apps."),
)  # fmt: skip
