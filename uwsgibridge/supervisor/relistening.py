"""Notices a listening socket that was shut down, which holds for all processes, and listens anew."""

from __future__ import annotations

from uwsgibridge.connection.socket_files import socket_files
from uwsgibridge.errors import BindError, SettingsError
from uwsgibridge.supervisor.fleet import Fleet


def listen_where_shut_down(fleet: Fleet) -> None:
    """Listen anew where the application has shut a socket down; fail the fleet where that can't be done.

    Args:
        fleet: has the sockets. It reloads where the new socket is another one.
    """
    if fleet.is_ending():
        return
    for listening in fleet.sockets:
        if listening.listens:
            continue
        address = str(listening.address)
        fleet.log.error(
            "nobody can connect any more: the listening socket was shut down", address=address
        )
        try:
            is_another = listening.listen_anew(socket_files(fleet.settings), fleet.settings.backlog)
        except (BindError, SettingsError, OSError) as error:
            fleet.fail(f"nothing can be accepted at {address} any more: {error}")
            return
        fleet.log.info("listening", address=address)
        if is_another:
            fleet.ask_for_reload(f"another socket at {address}")
