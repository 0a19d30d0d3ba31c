"""Listening sockets: TCP, unix and inherited ones; how they come to be and how they go."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uwsgibridge.config.address import (
    Address,
    DescriptorAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
)

# How long the kernel holds a TCP connection back that has sent nothing yet. nginx sends right after
# its connect, so accept() then finds the whole packet; what stays silent is handed over after this.
_DEFER_ACCEPT_SECONDS: Final = 1


class BindError(Exception):
    """An address can't be listened at; the message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A bound and listening socket, non-blocking.

    Attributes:
        socket: the socket.
        address: where it listens, with the real port.
        owned_file: device and inode of the socket file that we made, if any.
    """

    socket: socket.socket
    address: Address
    owned_file: tuple[int, int] | None = None

    @property
    def is_unix(self) -> bool:
        """Whether peers come over a unix socket."""
        return self.socket.family == socket.AF_UNIX

    @property
    def is_inherited(self) -> bool:
        """Whether others listen on it, too, or will."""
        return isinstance(self.address, DescriptorAddress)

    def close(self) -> None:
        """Close, and remove the socket file; does nothing when that was done."""
        self.socket.close()
        self.remove_file()

    def remove_file(self) -> None:
        """Remove the socket file if it is still the one that we made."""
        if self.owned_file is not None and isinstance(self.address, UnixAddress):
            with contextlib.suppress(OSError):
                if _identity(self.address.path) == self.owned_file:
                    Path(self.address.path).unlink()


@contextlib.contextmanager
def open_sockets(
    addresses: Iterable[str], *, mode: str, backlog: int
) -> Iterator[list[ListeningSocket]]:
    """Listen at all addresses, and close them at the end.

    Args:
        addresses: as `parse_address` takes them.
        mode: permissions of unix sockets, octal.
        backlog: of each.

    Raises:
        BindError: one of them can't be had; none stays open.
    """
    with contextlib.ExitStack() as stack:
        opened: list[ListeningSocket] = []
        for text in addresses:
            for listening in _listen(parse_address(text), int(mode, 8), backlog):
                stack.callback(listening.close)
                opened.append(listening)
        yield opened


def adopt_socket(
    descriptor: int, address: Address, owned_file: tuple[int, int] | None
) -> ListeningSocket:
    """Take a listening socket over that an earlier program in this process has opened.

    Args:
        descriptor: of it.
        address: where it listens.
        owned_file: as `ListeningSocket` has it.
    """
    listening = socket.socket(fileno=descriptor)
    listening.setblocking(False)
    return ListeningSocket(listening, address, owned_file)


def _listen(address: Address, mode: int, backlog: int) -> list[ListeningSocket]:
    match address:
        case UnixAddress():
            return [_listen_unix(address, mode, backlog)]
        case TcpAddress():
            return _listen_tcp(address, backlog)
        case DescriptorAddress():
            return [_inherit(address)]


def _listen_tcp(address: TcpAddress, backlog: int) -> list[ListeningSocket]:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        why = error.args[1] if isinstance(error, socket.gaierror) else "it is no host name"
        raise BindError(f"{address}: the name {address.host!r} is not known: {why}") from None
    if address.port == 0:
        found = found[:1]  # several would get a port each
    with contextlib.ExitStack() as on_failure:
        opened = []
        for family, _, _, _, sockaddr in dict.fromkeys(found):
            listening = socket.socket(family, socket.SOCK_STREAM)
            on_failure.callback(listening.close)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit it: the last piece of an answer never waits for an ACK.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                listening.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_ACCEPT_SECONDS
                )
            if family == socket.AF_INET6:
                # Else "[::]" would take IPv4 as well, and "0.0.0.0" beside it would fail.
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listening.bind(sockaddr)
                listening.listen(backlog)
            except OSError as error:
                raise BindError(_why_tcp(address, error)) from None
            listening.setblocking(False)
            host, port = listening.getsockname()[:2]
            opened.append(ListeningSocket(listening, TcpAddress(host, port)))
        on_failure.pop_all()
    return opened


def _listen_unix(address: UnixAddress, mode: int, backlog: int) -> ListeningSocket:
    path = address.path
    _refuse_live_socket(path)
    # Bound under another name, made accessible, and then moved: nobody ever meets a socket that
    # refuses them, and a stale one is replaced in one step. Short, for sun_path is.
    temporary = f"{path}.{os.getpid() % 1000}"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(listening.close)
        try:
            if Path(temporary).is_socket():
                Path(temporary).unlink()  # of a process with such a number that was killed here
            listening.bind(temporary)
            on_failure.callback(Path(temporary).unlink, missing_ok=True)
            Path(temporary).chmod(mode)
            listening.listen(backlog)
            identity = _identity(temporary)
            Path(temporary).rename(path)
        except OSError as error:
            raise BindError(_why_unix(address, error)) from None
        listening.setblocking(False)
        on_failure.pop_all()
    return ListeningSocket(listening, address, identity)


def _inherit(address: DescriptorAddress) -> ListeningSocket:
    try:
        listening = socket.socket(fileno=address.fd)
    except OSError as error:
        raise BindError(
            f"{address}: descriptor {address.fd} is not an inherited socket: {error.strerror}"
        ) from None
    try:
        if listening.type != socket.SOCK_STREAM:
            raise BindError(f"{address}: descriptor {address.fd} is not a stream socket")
        if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise BindError(
                f"{address}: the socket does not listen; call listen() before handing it on"
            )
    except BaseException:
        listening.detach()  # whoever handed it over may still want it
        raise
    listening.setblocking(False)
    return ListeningSocket(listening, address)


def _refuse_live_socket(path: str) -> None:
    try:
        kind = Path(path).stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise BindError(_why_unix(UnixAddress(path), error)) from None
    if not stat.S_ISSOCK(kind):
        raise BindError(
            f"unix:{path}: there is a file that is not a socket; remove it, or use another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return  # stale: nobody listens any more
        except BlockingIOError:
            pass  # alive, with a full backlog
        except OSError as error:
            raise BindError(_why_unix(UnixAddress(path), error)) from None
    raise BindError(f"unix:{path}: another process listens there; stop it, or use another path")


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _why_tcp(address: TcpAddress, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"{address}: the port is in use; stop what listens there, or use another --bind"
        case errno.EACCES | errno.EPERM:
            return f"{address}: no permission for this port; ports below 1024 need a privilege"
        case errno.EADDRNOTAVAIL:
            return f"{address}: this machine has no such address"
        case _:
            return f"{address}: {error.strerror}"


def _why_unix(address: UnixAddress, error: OSError) -> str:
    directory = str(Path(address.path).parent)
    match error.errno:
        case errno.ENOENT:
            return f"{address}: there is no directory {directory}; create it first"
        case errno.EACCES | errno.EPERM:
            return f"{address}: no permission to create a socket in {directory}"
        case errno.EROFS:
            return f"{address}: {directory} is on a read-only file system"
        case _:
            return f"{address}: {error.strerror}"
