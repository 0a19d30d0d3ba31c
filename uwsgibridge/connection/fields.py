"""The fields of a connection: of a class of the accelerator where it is in use, else of a class of Python.

The accelerator reads and writes the fields of its class without a call. So `Connection` is the same class for both.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from uwsgibridge.fast import Descriptor, accelerator

if TYPE_CHECKING:
    from uwsgibridge.loop.interface import Task
    from uwsgibridge.protocol.request import Request


class PythonFields:
    """The fields, with their defaults on the class: a connection that never changes them pays nothing for them.

    Attributes:
        request: the request, once the packet has arrived.
        accepted_at: `time.monotonic()` when the connection was accepted.
        body_unseen: bytes of the body that were not read or peeked at yet.
        peer_gone: whether `PeerGone` was raised.
        input_stalled: whether the owner's wait for the body came to its deadline.
        slot: the flight recorder's slot with the packet, if the request is recorded.
        task: the task that serves the request; kept here since some loops hold tasks only weakly.
        closing_task: the task that discards the rest of the input; kept for the same reason.
    """

    request: Request
    task: Task
    closing_task: Task
    accepted_at: float
    body_unseen = 0
    peer_gone = False
    input_stalled = False
    slot: memoryview | None = None
    _socket: socket.SocketType | Descriptor
    _keeps_input_in_kernel: bool
    _is_nonblocking = False
    _peeked_bytes = 0  # bytes that were peeked at and are still in the kernel
    _has_large_buffer = False
    # Whether each close is a reset, also that of the kernel at the end of this process.
    _breaks_if_killed = False
    _pending = b""  # the start of a packet that came in pieces
    _seen_body = b""  # bytes of the body that came with the packet


if TYPE_CHECKING:
    ConnectionFields = PythonFields
else:
    ConnectionFields = PythonFields if accelerator is None else accelerator.ConnectionFields
