"""Connects to a uwsgi port within a deadline, or says why that is impossible."""

from __future__ import annotations

import errno
import socket
import stat
import struct
import time
from pathlib import Path
from typing import Final, TypeAlias

from uwsgibridge.client.errors import ClientError, describe
from uwsgibridge.config.address import (
    FORMS_TO_CONNECT,
    AddressError,
    DescriptorAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
)

Address: TypeAlias = str | TcpAddress | UnixAddress | DescriptorAddress
Target: TypeAlias = TcpAddress | UnixAddress

# The longest timeout, eleven days: epoll_wait can count it in milliseconds, and nobody waits longer.
_LONGEST_TIMEOUT_SECONDS: Final = 1_000_000.0


class Deadline:
    """One point in time, by which all waits of a call have to end."""

    def __init__(self, seconds: float) -> None:
        if not 0 < seconds <= _LONGEST_TIMEOUT_SECONDS:
            raise ValueError(
                f"The timeout (--timeout-seconds) must be over 0 and at most "
                f"{_LONGEST_TIMEOUT_SECONDS:.0f} seconds, not {seconds:g}"
            )
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    def remaining_seconds(self) -> float:
        remaining = self._at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining


def dialable(address: Address) -> Target:
    parsed = parse_address(address, forms=FORMS_TO_CONNECT) if isinstance(address, str) else address
    if isinstance(parsed, DescriptorAddress):
        raise AddressError(
            f"{parsed} is a descriptor of the server's: name the address behind it, "
            "such as 127.0.0.1:3031 or unix:/run/app.sock"
        )
    return parsed


def connect(target: Target, deadline: Deadline, failure: type[ClientError]) -> socket.socket:
    try:
        if isinstance(target, TcpAddress):
            return _connect_tcp(target, deadline)
        return _connect_unix(target, deadline)
    except (TimeoutError, BlockingIOError) as error:
        raise failure(
            f"{target} did not accept a connection within {deadline.seconds:g} s: "
            "the server's queue is full, or a firewall drops the packets"
        ) from error
    except OSError as error:
        raise failure(_why_unreachable(target, error)) from error


def _connect_tcp(target: TcpAddress, deadline: Deadline) -> socket.socket:
    problem: OSError | None = None
    for family, kind, protocol, _name, address in socket.getaddrinfo(
        target.host, target.port, type=socket.SOCK_STREAM
    ):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(deadline.remaining_seconds())
            connection.connect(address)
            # TCP_NODELAY, so that the body does not wait for the delayed acknowledgement of the packet.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError as error:
            connection.close()
            problem = error
    assert problem is not None  # getaddrinfo gives at least one address
    raise problem


def _connect_unix(target: UnixAddress, deadline: Deadline) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Where the backlog is full, a non-blocking connect fails at once, and settimeout would make this one
        # non-blocking. A blocking connect waits for SO_SNDTIMEO (Linux: unix_stream_connect).
        seconds, fraction = divmod(deadline.remaining_seconds(), 1)
        timeval = struct.pack("@ll", int(seconds), max(1, int(fraction * 1_000_000)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        connection.connect(target.path)
    except BaseException:
        connection.close()
        raise
    return connection


def _no_such_socket(target: UnixAddress) -> str:
    return f"There is no such socket: {target}; start the bridge with --bind {target}"


def _why_unreachable(target: Target, error: OSError) -> str:
    if isinstance(target, TcpAddress):
        if isinstance(error, socket.gaierror):
            return f"The host name of {target} has no address ({describe(error)})"
        if error.errno == errno.ECONNREFUSED:
            return f"Nothing listens at {target}: start the bridge with --bind {target}"
        return f"{target} can't be reached: {describe(error)}"
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return _no_such_socket(target)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"Permission denied on {target}: act as a user that may write to it, "
            "or start the bridge with another --socket-mode"
        )
    if error.errno == errno.ECONNREFUSED:
        try:
            mode = Path(target.path).stat().st_mode
        except OSError:  # a bridge that ends has removed it meanwhile
            return _no_such_socket(target)
        if not stat.S_ISSOCK(mode):
            return f"{target} is a file and no socket: name the one given to --bind"
        return (
            f"Nothing listens at {target}, its server is gone: start the bridge with "
            f"--bind {target}, which replaces the left-over socket"
        )
    return f"{target} can't be reached: {describe(error)}"
