"""How a listening socket stops taking connections, while those that it has taken are still accepted.

Closing it is not enough. A connection that Nginx has opened, and sent a request on, waits in the kernel
until it is accepted; what waits there as the last descriptor is closed is reset. Nginx answers a POST that
was reset with 502, where it would have taken another server for one that was refused. So new connections
are refused first, and then those that are there are accepted.

Everything here acts on the socket itself, and so on all processes that have a descriptor of it. Only a
process that may refuse for all of them calls it.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
import sys
from typing import Final

from uwsgibridge.connection.sockets import ListeningSocket

# A deferred connection is not in the backlog before its first packet has arrived, and it is reset with the
# socket. nginx sends in the turn of its loop that follows its connect: this is many such turns.
_DEFERRED_SECONDS: Final = 0.05

# For the last part of a handshake to come over a network. Over the loopback it is there with the first.
_HANDSHAKE_SECONDS: Final = 0.005

# From linux/filter.h and asm-generic/socket.h: a filter of classic BPF, which needs no privilege. It sees a
# segment from its TCP header on, whose byte 13 has the flags.
_SO_ATTACH_FILTER: Final = 26
_LOAD_BYTE: Final = 0x30
_AND: Final = 0x54
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_SYN: Final = 0x02
_SYN_AND_ACK: Final = 0x12
_ALL_OF_IT: Final = 0xFFFF_FFFF
_INSTRUCTION: Final = struct.Struct("=HBBI")
_DROP_NEW_HANDSHAKES: Final = b"".join(
    _INSTRUCTION.pack(*it)
    for it in (
        (_LOAD_BYTE, 0, 0, 13),
        (_AND, 0, 0, _SYN_AND_ACK),
        (_JUMP_IF_EQUAL, 0, 1, _SYN),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _ALL_OF_IT),
    )
)


def admit_at_once(listening: ListeningSocket) -> float:
    """Have connections come into the backlog as soon as they are there, without their first packet.

    Returns:
        After how many seconds those that were deferred have come, too.
    """
    if listening.is_unix or sys.platform != "linux":
        return 0.0
    with contextlib.suppress(OSError):
        listening.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 0)
    return _DEFERRED_SECONDS


def refuse_new(listening: ListeningSocket) -> float:
    """Let no new connection into the backlog.

    A unix socket refuses at once (`unix_shutdown` of Linux; what waits can still be accepted). A TCP socket
    can't: it is silent to new ones until `refuse_all`, and a client that tries again after a second, as
    TCP does, is refused.

    Returns:
        After how many seconds all those are in the backlog that will ever be.
    """
    if listening.is_unix:
        refuse_all(listening)
        return 0.0
    if sys.platform != "linux":
        return 0.0
    program = ctypes.create_string_buffer(_DROP_NEW_HANDSHAKES, len(_DROP_NEW_HANDSHAKES))
    count = len(_DROP_NEW_HANDSHAKES) // _INSTRUCTION.size
    # struct sock_fprog: the number of instructions, and where they are.
    described = struct.pack("@HP", count, ctypes.addressof(program))
    try:
        listening.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        host = listening.socket.getsockname()[0].partition("%")[0]
    except OSError:  # a sandbox has no filters: what is on its way in these microseconds is lost
        return 0.0
    return 0.0 if ipaddress.ip_address(host).is_loopback else _HANDSHAKE_SECONDS


def refuse_all(listening: ListeningSocket) -> None:
    """Have the socket listen no longer, whoever has a descriptor of it.

    Linux; elsewhere it listens until all have closed it.
    """
    with contextlib.suppress(OSError):  # it does not listen any more
        listening.socket.shutdown(socket.SHUT_RD)
