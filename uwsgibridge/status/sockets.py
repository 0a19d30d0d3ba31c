"""Opens the listening sockets of the status application and of uWSGI's statistics, or takes them over in an upgrade."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final

from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.socket_files import socket_files
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.errors import BindError
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.telemetry.logs import Logger

# The options that name an address.
_OPTIONS: Final = ("status_bind", "uwsgi_stats")


@dataclass(frozen=True, slots=True)
class PublishedSockets:
    """The listening sockets at which figures are to be had.

    Attributes:
        by_place: the sockets of each option with its address, such as ``status_bind 127.0.0.1:3032``.
        unwanted: sockets that were handed over, and that no option names any more.
    """

    by_place: dict[str, Sequence[ListeningSocket]] = field(default_factory=dict)
    unwanted: list[ListeningSocket] = field(default_factory=list)

    def of(self, option: str) -> list[ListeningSocket]:
        """Give the sockets of an option."""
        return [
            one
            for place, all_ in self.by_place.items()
            if place.split()[0] == option
            for one in all_
        ]

    @property
    def all(self) -> list[ListeningSocket]:
        """All sockets that are wanted."""
        return [one for all_ in self.by_place.values() for one in all_]

    def close_unwanted(self) -> None:
        """Close what no option names any more, once no earlier program may need it."""
        while self.unwanted:
            self.unwanted.pop().close()


@contextlib.contextmanager
def open_published(
    settings: Settings,
    logger: Logger,
    handed_over: Mapping[str, Sequence[ListeningSocket]] | None = None,
) -> Iterator[PublishedSockets]:
    """Listen where figures are to be had, and close the sockets at the end.

    Args:
        settings: name the addresses.
        logger: where an address that can't be had is logged in an upgrade.
        handed_over: `PublishedSockets.by_place` of the program before; None where this is no upgrade.

    Raises:
        BindError: an address can't be listened at, and this is no upgrade.
    """
    left = dict(handed_over or {})
    published = PublishedSockets()
    with contextlib.ExitStack() as stack:
        for name in _OPTIONS:
            address = getattr(settings, name)
            if not address:
                continue
            place = f"{name} {address}"
            if place in left:
                published.by_place[place] = left.pop(place)
                stack.enter_context(_closing(published.by_place[place]))
                continue
            try:
                published.by_place[place] = stack.enter_context(
                    open_sockets((address,), mode=socket_files(settings), backlog=settings.backlog)
                )
            except BindError as error:
                option = option_name(name)
                reason = f"{option}: {str(error).replace('another --bind', f'another {option}')}"
                if handed_over is None:
                    raise BindError(reason) from None
                logger.error("figures are not published", option=option, reason=reason)  # noqa: TRY400 - the reason says it
        published.unwanted.extend(one for all_ in left.values() for one in all_)
        yield published


@contextlib.contextmanager
def _closing(sockets: Sequence[ListeningSocket]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for one in sockets:  # another program may go on with the socket, so its file stays
            one.socket.close()
        raise
    for one in sockets:
        one.close()
