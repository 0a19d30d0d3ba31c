"""The log event of a start, which is the first line that a reader looks for in a log."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from uwsgibridge import fast
from uwsgibridge._version import __version__
from uwsgibridge.config.mounts import parse_static
from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS, Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.system.interpreter import describe_python
from uwsgibridge.telemetry.logs import Logger


def announce(
    app_name: str | None,
    settings: Settings,
    logger: Logger,
    sockets: Sequence[ListeningSocket],
) -> None:
    """Log one event: the application, the process and the addresses.

    Each worker logs the interface of its applications and the event loop: these are known once the
    applications are loaded.

    Args:
        app_name: as on the command line; None where there are mounts alone.
        settings: of this service.
        logger: where the event goes.
        sockets: the listening sockets, which are open.
    """
    logger.info(
        "started",
        version=__version__,
        python=describe_python(),
        accelerator=fast.accelerator_state,
        pid=os.getpid(),
        workers=settings.workers,
        app=", ".join([*([app_name] if app_name else []), *settings.mount]),
        addresses=[str(it.address) for it in sockets],
    )
    for url, path in map(parse_static, settings.static):
        if not os.path.exists(path):  # noqa: PTH110 - where even this may not look, it is missing, too
            logger.warning(
                "files are not there yet: the application answers",
                url=url or "/",
                path=path,
                option="--static",
            )
    defaults = Settings()
    logger.debug(
        "options that are not the default",
        **{
            option_name(one.name): OPTIONS[one.name].shown(getattr(settings, one.name))
            for one in dataclasses.fields(settings)
            if getattr(settings, one.name) != getattr(defaults, one.name)
        },
    )
