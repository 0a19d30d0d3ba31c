"""uwsgibridge: the Python application server behind Nginx's ``uwsgi_pass``."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from uwsgibridge._version import __version__

if TYPE_CHECKING:
    from uwsgibridge.config.settings import Settings
    from uwsgibridge.errors import (
        ApplicationError,
        BindError,
        BridgeError,
        SettingsError,
        WorkerUnfit,
    )
    from uwsgibridge.hosts.wsgi.interruption import RequestInterrupted
    from uwsgibridge.telemetry.logging_filter import RequestIdFilter
    from uwsgibridge.telemetry.request_ids import add_request_id, request_id
    from uwsgibridge.worker.embedded import serve

__all__ = [
    "ApplicationError",
    "BindError",
    "BridgeError",
    "RequestIdFilter",
    "RequestInterrupted",
    "Settings",
    "SettingsError",
    "WorkerUnfit",
    "__version__",
    "add_request_id",
    "request_id",
    "serve",
]

_HOMES: Final = {
    "ApplicationError": "uwsgibridge.errors",
    "BindError": "uwsgibridge.errors",
    "BridgeError": "uwsgibridge.errors",
    "RequestIdFilter": "uwsgibridge.telemetry.logging_filter",
    "RequestInterrupted": "uwsgibridge.hosts.wsgi.interruption",
    "Settings": "uwsgibridge.config.settings",
    "SettingsError": "uwsgibridge.errors",
    "WorkerUnfit": "uwsgibridge.errors",
    "add_request_id": "uwsgibridge.telemetry.request_ids",
    "request_id": "uwsgibridge.telemetry.request_ids",
    "serve": "uwsgibridge.worker.embedded",
}


def __getattr__(name: str) -> object:
    # Imported on demand: `uwsgibridge ping`, a health check, needs neither trio nor structlog.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
