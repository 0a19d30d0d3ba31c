"""Has a listening socket refuse new connections, while those in its backlog can still be accepted.

Closing the socket is not enough. A connection that Nginx has opened, and sent a request on, waits in the backlog. The
kernel resets connections in the backlog when the last descriptor is closed. Nginx answers 502 to a POST whose
connection was reset, but takes another server for one that was refused. So new connections are refused first, and
then those in the backlog are accepted.

These functions act on the socket itself, and so on all processes that have a descriptor of it. Only a process that
may refuse for all of them calls these functions.
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

# How long a deferred connection may take to enter the backlog, which it does with its first packet. Until then, it
# is reset with the socket. nginx sends in the turn of its loop after its connect; this time is many such turns.
_DEFERRED_SECONDS: Final = 0.05

# How long the last part of a handshake may take over a network. Over the loopback, it comes with the first part.
_HANDSHAKE_SECONDS: Final = 0.005

# A filter of classic BPF, which needs no privilege (linux/filter.h and asm-generic/socket.h). It sees a segment
# from the TCP header on. Byte 13 of the header has the flags.
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
    """Let connections into the backlog at once, also before their first packet.

    Returns:
        After how many seconds the connections that were deferred are in the backlog, too.
    """
    if listening.is_unix or sys.platform != "linux":
        return 0.0
    with contextlib.suppress(OSError):
        listening.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 0)
    return _DEFERRED_SECONDS


def refuse_new(listening: ListeningSocket) -> float:
    """Let no new connection into the backlog.

    A unix socket refuses at once (`unix_shutdown` of Linux); connections in its backlog can still be accepted. A
    TCP socket can't do that: it does not answer new connections until `refuse_all`. A client that tries again after
    a second, as TCP does, is refused then.

    Returns:
        After how many seconds no more connections come into the backlog.
    """
    if listening.is_unix:
        refuse_all(listening)
        return 0.0
    if sys.platform != "linux":
        return 0.0
    program = ctypes.create_string_buffer(_DROP_NEW_HANDSHAKES, len(_DROP_NEW_HANDSHAKES))
    count = len(_DROP_NEW_HANDSHAKES) // _INSTRUCTION.size
    # struct sock_fprog has the number of instructions and their address.
    described = struct.pack("@HP", count, ctypes.addressof(program))
    try:
        listening.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        host = listening.socket.getsockname()[0].partition("%")[0]
    except (
        OSError
    ):  # a sandbox allows no filters: connections that come in these microseconds are lost
        return 0.0
    return 0.0 if ipaddress.ip_address(host).is_loopback else _HANDSHAKE_SECONDS


def refuse_all(listening: ListeningSocket) -> None:
    """Have the socket listen no longer, whoever has a descriptor of it.

    On other systems than Linux, it listens until all processes have closed it.
    """
    with contextlib.suppress(OSError):  # the socket does not listen any more
        listening.socket.shutdown(socket.SHUT_RD)
