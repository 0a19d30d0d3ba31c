"""Imports what applications of one kind need: a worker of WSGI applications does without asyncio and the ASGI half."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from uwsgibridge.application.application import Application
from uwsgibridge.config.access_format import FORMS
from uwsgibridge.config.mounts import parse_mount
from uwsgibridge.config.settings import Settings

_BOTH: Final = frozenset({"wsgi", "asgi"})


def import_in_advance(
    settings: Settings, applications: Sequence[Application] | None, app_name: str | None = None
) -> None:
    """Import what workers will need, in their template, or in a process that is about to give its user up.

    So workers share it, and all are of one version: a worker may be forked when another one is being installed. And
    nothing has to be read by a user who may not. Where nothing says yet which kind of application comes, this is what both kinds need.

    Args:
        settings: of the workers.
        applications: those that are loaded already; None where they are loaded later.
        app_name: of the main application; by it, and by those of the mounted ones, a kind is likely. A worker of the other
            kind then imports the rest by itself. None where a worker could not.
    """
    interfaces: Collection[str] = _BOTH
    if applications is not None:
        interfaces = {it.interface for it in applications}
    elif settings.interface != "auto":
        interfaces = {settings.interface}
    elif app_name:
        interfaces = _likely_interfaces([app_name, *(parse_mount(it)[1] for it in settings.mount)])
    if "wsgi" in interfaces:
        _import_wsgi(settings)
    if "asgi" in interfaces:
        _import_asgi(settings)
    if settings.static:
        import uwsgibridge.hosts.static.mounts
    if settings.mount_limit:
        import uwsgibridge.hosts.mount_limits
    if settings.access_log_format not in FORMS:
        import uwsgibridge.telemetry.access_format
    if settings.app_logging == "bridge" and "logging" in sys.modules:
        import uwsgibridge.telemetry.application_logging
    if settings.log_config:
        import uwsgibridge.telemetry.logging_config
        import uwsgibridge.telemetry.logging_target  # noqa: F401 - imported for the workers
    if settings.log_to != ("stderr",):
        from uwsgibridge.telemetry.log_targets import make_targets

        make_targets(settings)


def _likely_interfaces(names: Iterable[str]) -> Collection[str]:
    """Tell the kinds by modules and files that are named after theirs, as ``mysite.wsgi`` of each Django project is."""
    found = {re.split(r"[./]", it.partition(":")[0].removesuffix(".py"))[-1] for it in names}
    return _BOTH if found - _BOTH else found


def _import_wsgi(settings: Settings) -> None:
    import uwsgibridge.hosts.wsgi.host

    if settings.wsgi_websockets:
        import uwsgibridge.hosts.wsgi.tunnels  # noqa: F401 - imported for the workers


def _import_asgi(settings: Settings) -> None:
    import uwsgibridge.hosts.asgi.host
    import uwsgibridge.hosts.asgi.lifespan

    if settings.loop != "trio":
        import uwsgibridge.loop.asyncio_loop
        import uwsgibridge.loop.choosing  # noqa: F401 - imported for the workers
