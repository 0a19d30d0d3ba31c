"""Opens the sockets of a supervisor: at its options' addresses, from systemd, or from an upgrade."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType

from uwsgibridge.config.settings import DEFAULT_BIND, Settings
from uwsgibridge.connection.socket_files import socket_files
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.errors import BindError, SettingsError
from uwsgibridge.supervisor.heritage import Heritage
from uwsgibridge.system.systemd import inherited_sockets
from uwsgibridge.telemetry.logs import Logger


def with_inherited_addresses(settings: Settings, heritage: Heritage | None) -> Settings:
    """Replace the default address by the sockets of systemd, if there are any.

    Args:
        settings: of the supervisor.
        heritage: of an upgrade, whose earlier program may have had such sockets.

    Raises:
        SettingsError: the options name other addresses, or systemd's variables are not valid.
    """
    activated = tuple(f"fd://{descriptor}" for descriptor in inherited_sockets(os.environ))
    if activated and settings.bind != (DEFAULT_BIND,):
        raise SettingsError(
            "systemd hands over sockets, and --bind names others: leave out one of them"
        )
    if heritage is not None and all(it.startswith("fd://") for it in heritage.bind):
        activated = tuple(heritage.bind)
    return replace(settings, bind=activated) if activated else settings


@contextlib.contextmanager
def open_or_take_over(
    settings: Settings, heritage: Heritage | None, logger: Logger
) -> Iterator[tuple[dict[str, Sequence[ListeningSocket]], list[ListeningSocket]]]:
    """Listen at each address, or take over the socket that listens there; close all sockets at the end.

    Args:
        settings: they name the addresses.
        heritage: of an upgrade. Where a new address can't be listened at then, the old ones are kept, too.
        logger: where that is logged.

    Yields:
        The sockets of each address, and the handed-over sockets whose addresses the options no longer name.

    Raises:
        BindError: an address can't be listened at, and this is no upgrade.
    """
    taken_over = dict(heritage.sockets) if heritage is not None else {}
    with contextlib.ExitStack() as stack:
        for all_ in taken_over.values():
            for one in all_:
                stack.push(_closing(one))
        sockets: dict[str, Sequence[ListeningSocket]] = {}
        failed = False
        for address in settings.bind:
            if address in taken_over:
                sockets[address] = taken_over.pop(address)
                continue
            try:
                sockets[address] = stack.enter_context(
                    open_sockets((address,), mode=socket_files(settings), backlog=settings.backlog)
                )
            except BindError as error:
                if heritage is None:
                    raise
                logger.error("upgrade keeps the old addresses", reason=str(error))  # noqa: TRY400 - the reason says it
                failed = True
        if failed:
            sockets |= taken_over
            taken_over = {}
        yield sockets, [one for all_ in taken_over.values() for one in all_]


def _closing(
    listening: ListeningSocket,
) -> Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], None]:
    """Make a function for the end of a context, which closes a socket that was taken over."""

    def close(
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is None:
            listening.close()
        else:  # another program may go on with the socket, so its file stays
            listening.socket.close()

    return close
