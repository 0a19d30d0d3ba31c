"""Who may connect: the rule of ``--allow-from`` and ``--allow-user``.

Whoever can connect is believed like Nginx: the vars of a packet say who the client is. The rule is asked right after
accept(2), before anything is read.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Final

from uwsgibridge.config.peers import parse_network, parse_peer_user
from uwsgibridge.config.settings import Settings

# struct ucred: pid, uid, gid (unix(7), SO_PEERCRED).
_CREDENTIALS: Final = struct.Struct("iII")


def credentials_of(connection: socket.SocketType) -> tuple[int, int, int]:
    """Give the process, the user and the group at the other end of a unix socket, as the kernel knows them.

    Args:
        connection: one that was accepted: of who has connected; one that has connected: of who listens.

    Raises:
        OSError: nobody can tell.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


class AllowedPeers:
    """The peers that the options allow.

    Args:
        settings: of which ``allow_from`` and ``allow_user`` count.
    """

    def __init__(self, settings: Settings) -> None:
        networks = [parse_network("--allow-from", it) for it in settings.allow_from]
        self._networks = [(it.version, int(it.network_address), int(it.netmask)) for it in networks]
        self._users = frozenset(parse_peer_user("--allow-user", it) for it in settings.allow_user)

    def restricts(self, family: int) -> bool:
        """Whether not all peers of a socket of this address family may connect."""
        return bool(self._users if family == socket.AF_UNIX else self._networks)

    def refused(self, descriptor: int, family: int) -> str | None:
        """Look who is at the other end of an accepted connection.

        Args:
            descriptor: of the connection, which stays open.
            family: of its socket, for which `restricts` is true.

        Returns:
            None for a peer that may connect; else its address, or its user as ``uid 33``.

        Raises:
            OSError: the peer is gone, so that nobody can tell who it was.
        """
        asked = socket.SocketType(family, socket.SOCK_STREAM, 0, descriptor)
        try:
            if family == socket.AF_UNIX:
                uid = credentials_of(asked)[1]
                return None if uid in self._users else f"uid {uid}"
            host: str = asked.getpeername()[0]
        finally:
            asked.detach()
        return None if self._has(host) else host

    def _has(self, host: str) -> bool:
        # The zone of a link-local address says which interface it is of. Networks hold for all of them.
        address = ipaddress.ip_address(host.partition("%")[0])
        # An inherited socket may take both versions, and IPv4 peers look like this there.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        found = address if mapped is None else mapped
        number = int(found)
        return any(
            version == found.version and number & mask == network
            for version, network, mask in self._networks
        )
