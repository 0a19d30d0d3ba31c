"""Tells by the name of gunicorn's worker class how it runs an application."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any, Final

from uwsgibridge.migration.gunicorn.portable import ClassNames


class WorkerKind(Enum):
    """How a worker of gunicorn runs an application."""

    SYNC = auto()  # one request after the other
    THREADS = auto()
    ASGI = auto()  # gunicorn's own worker for ASGI
    UVICORN = auto()  # uvicorn's worker, or a class that derives from it
    GREEN = auto()  # green threads: gevent, eventlet, meinheld
    FOREIGN = auto()  # for applications that are neither WSGI nor ASGI: tornado, aiohttp
    UNKNOWN = auto()


# The first that is found in the lower case name of the class, or of a class that it derives from.
_PARTS: Final = (
    (re.compile(r"uvicorn"), WorkerKind.UVICORN),
    (re.compile(r"gevent|eventlet|meinheld|greenlet"), WorkerKind.GREEN),
    (re.compile(r"tornado|aiohttp|sanic"), WorkerKind.FOREIGN),
    (re.compile(r"gthread|threadworker"), WorkerKind.THREADS),
    (re.compile(r"asgi"), WorkerKind.ASGI),
    (re.compile(r"sync$|syncworker"), WorkerKind.SYNC),
)

_OF_UVICORN: Final = re.compile(r"uvicorn(\.workers|_worker(\.\w+)?)\.Uvicorn(H11)?Worker")


def kind_of(worker_class: Any, threads: int) -> WorkerKind:
    """Tell the kind of a worker class.

    Args:
        worker_class: its name, or the names of a class.
        threads: of each worker; with several, gunicorn takes its worker with threads in place of the plain one.
    """
    names = worker_class.names if isinstance(worker_class, ClassNames) else (str(worker_class),)
    for name in names:
        for pattern, kind in _PARTS:
            if pattern.search(name.lower()):
                is_threaded = kind is WorkerKind.SYNC and threads > 1
                return WorkerKind.THREADS if is_threaded else kind
    return WorkerKind.UNKNOWN


def is_of_uvicorn(worker_class: Any) -> bool:
    """Whether it is a class of uvicorn itself, and not one that somebody has derived from it."""
    return _OF_UVICORN.fullmatch(str(worker_class)) is not None
