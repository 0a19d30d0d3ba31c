"""Counts the connections in the backlog of a listening socket, which nobody has accepted yet.

This works on Linux, without privileges. A TCP socket has the number itself (`TCP_INFO`). For a unix socket, the
kernel is asked over netlink, as ``ss -xl`` does (sock_diag(7)).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from typing import Final


def connections_waiting(listening: socket.socket) -> int | None:
    """Count the connections in the accept queue of a listening socket.

    This never waits: the kernel answers a question while it is sent. A TCP connection that `TCP_DEFER_ACCEPT`
    holds back counts once it has sent something.

    Args:
        listening: a TCP or unix stream socket, blocking or not.

    Returns:
        The number, or None where it can't be known: on another system, for a socket that does not
        listen or is closed, where a sandbox forbids netlink, and for a unix socket of another network
        namespace.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            if listening.family == socket.AF_UNIX:
                return _waiting_at_unix(listening)
            return _waiting_at_tcp(listening)
    return None


# TCP_LISTEN of linux/tcp_states.h; unix sockets have the same state.
_LISTEN: Final = 10

# struct tcp_info of linux/tcp.h, up to what a listening socket has in tcpi_unacked: the connections
# ready for accept() (tcp_get_info in net/ipv4/tcp.c). Before it are tcpi_state, seven more bytes, and
# four numbers.
_TCP_INFO: Final = struct.Struct("=B7x16xI")

# linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h.
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_UDIAG_SHOW_RQLEN: Final = 0x10
_UNIX_DIAG_RQLEN: Final = 4
_MAX_INODE: Final = 0xFFFF_FFFF
_ANY_COOKIE: Final = 0xFFFF_FFFF

# struct nlmsghdr (length, type, flags, sequence, port), then struct unix_diag_req (family, protocol,
# padding, states, inode, what to show, cookie).
_REQUEST: Final = struct.Struct("=IHHIIBBHIIIII")
# struct nlmsghdr, then struct unix_diag_msg (family, type, state, padding, inode, cookie).
_ANSWER: Final = struct.Struct("=4xH10xxxB13x")
# struct nlattr: length with this header, type. The next one begins at a multiple of four.
_ATTRIBUTE: Final = struct.Struct("=HH")
_RQUEUE: Final = struct.Struct("=I")
# An answer has some 50 bytes.
_MAX_ANSWER_BYTES: Final = 4096


if sys.platform == "linux":

    def _waiting_at_tcp(listening: socket.socket) -> int | None:
        info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(info) < _TCP_INFO.size:
            return None
        state, waiting = _TCP_INFO.unpack(info)
        return int(waiting) if state == _LISTEN else None

    def _waiting_at_unix(listening: socket.socket) -> int | None:
        inode = os.fstat(listening.fileno()).st_ino & _MAX_INODE
        request = _REQUEST.pack(
            _REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0,
            socket.AF_UNIX, 0, 0, 0, inode, _UDIAG_SHOW_RQLEN,
            _ANY_COOKIE, _ANY_COOKIE,
        )  # fmt: skip
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.setblocking(False)
            kernel.connect((0, 0))
            kernel.send(request)
            return _parse_answer(kernel.recv(_MAX_ANSWER_BYTES))


def _parse_answer(answer: bytes) -> int | None:
    if len(answer) < _ANSWER.size:
        return None
    kind, state = _ANSWER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY or state != _LISTEN:
        return None  # an error: the kernel knows no such socket, or no such question
    offset = _ANSWER.size
    while offset + _ATTRIBUTE.size < len(answer):
        length, attribute = _ATTRIBUTE.unpack_from(answer, offset)
        if attribute == _UNIX_DIAG_RQLEN:
            return int(_RQUEUE.unpack_from(answer, offset + _ATTRIBUTE.size)[0])
        offset += (length + 3) // 4 * 4
    return None
