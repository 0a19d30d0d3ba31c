"""The log event of a start, which is the first line that a reader looks for in a log."""

from __future__ import annotations

import dataclasses
import ipaddress
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
    warn_of_open_addresses(settings, logger, sockets)
    defaults = Settings()
    logger.debug(
        "options that are not the default",
        **{
            option_name(one.name): OPTIONS[one.name].shown(getattr(settings, one.name))
            for one in dataclasses.fields(settings)
            if getattr(settings, one.name) != getattr(defaults, one.name)
        },
    )


def warn_of_open_addresses(
    settings: Settings, logger: Logger, sockets: Sequence[ListeningSocket]
) -> None:
    """Log what peers can claim, where others than this machine can connect, and `allow_from` names nobody.

    Args:
        settings: of this service.
        logger: where the event goes.
        sockets: the listening sockets, which are open.
    """
    if settings.allow_from:
        return
    found = [str(it.address) for it in sockets if not it.is_unix and not _is_loopback(it)]
    if found:
        logger.warning(
            "whoever reaches this address is believed like Nginx",
            addresses=found,
            claims="REMOTE_ADDR, REMOTE_USER, HTTPS, HTTP_HOST and all other vars",
            option="--allow-from",
            hint="name Nginx's network, such as --allow-from 10.0.0.0/8, or 0.0.0.0/0 and ::/0 where a firewall decides; or bind "
            "to 127.0.0.1 or a unix socket",
        )


def _is_loopback(listening: ListeningSocket) -> bool:
    try:
        host: str = listening.socket.getsockname()[0]
    except OSError:  # the application has closed it, which is reported elsewhere
        return True
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (address if mapped is None else mapped).is_loopback
