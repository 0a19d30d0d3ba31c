"""Notices that somebody else has removed or replaced the file of a unix socket, and makes it anew in a reload.

The socket itself goes on: whoever was connected is served. But nobody finds it any more, and only a new socket can have a
file again.
"""

from __future__ import annotations

from collections.abc import Sequence

from uwsgibridge.connection.socket_files import socket_files
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.errors import BindError, SettingsError
from uwsgibridge.supervisor.fleet import Fleet


class LostFiles:
    """Tells what has become of the socket files, once for each change.

    Args:
        fleet: has the sockets.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lost: dict[ListeningSocket, str] = {}

    def look(self) -> None:
        """Look at each file, and log what has changed since the last look."""
        if self._fleet.is_ending():
            return
        for listening in self._fleet.sockets:
            lost = listening.lost_file()
            if lost == self._lost.get(listening):
                continue
            address = str(listening.address)
            if lost is None:
                del self._lost[listening]
                self._fleet.log.info("the socket file is there again", address=address)
                continue
            self._lost[listening] = lost
            self._fleet.log.error(
                "nobody can connect any more: the socket file is lost",
                address=address,
                file=lost,
                hint=remedy(listening, lost),
            )


def remedy(listening: ListeningSocket, lost: str) -> str:
    """Say what an operator is to do about a lost file.

    Args:
        listening: the socket.
        lost: as `ListeningSocket.lost_file` has it.
    """
    if listening.is_inherited:
        return "it was handed over: have whoever made the socket listen there again, then restart"
    first = "" if lost == "removed" else "stop what listens there, or remove that file; then "
    return f"{first}reload, which makes it anew"


def listen_where_lost(fleet: Fleet) -> Sequence[ListeningSocket]:
    """Listen anew where a file is lost, for the workers of the next generation.

    Args:
        fleet: has the sockets.

    Returns:
        The sockets that are new.
    """
    made = []
    for listening in fleet.sockets:
        if listening.is_inherited or listening.lost_file() is None:
            continue
        try:
            listening.listen_anew(socket_files(fleet.settings), fleet.settings.backlog)
        except (BindError, SettingsError, OSError) as error:
            fleet.log.error(  # noqa: TRY400 - the reason says it
                "a socket file can't be made anew",
                address=str(listening.address),
                reason=str(error),
                hint="mend that and reload, or restart",
            )
        else:
            fleet.log.info("listening", address=str(listening.address))
            made.append(listening)
    return made
