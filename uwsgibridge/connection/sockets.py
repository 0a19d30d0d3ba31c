"""Makes, adopts and closes listening sockets: TCP, unix and inherited ones."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Final

from uwsgibridge.config.address import (
    Address,
    DescriptorAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
)
from uwsgibridge.connection.socket_files import SocketFiles
from uwsgibridge.connection.unix_sockets import listen_unix, remove_socket_file
from uwsgibridge.errors import BindError
from uwsgibridge.quick_dataclass import dataclass

# How long the kernel holds back a TCP connection that has sent nothing. nginx sends right after its connect, so that
# accept() finds the whole packet. A silent connection comes into the backlog after this time.
_DEFER_ACCEPT_SECONDS: Final = 1


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed
        return Path()


@dataclass(slots=True, eq=False)
class ListeningSocket:
    """A bound and listening socket, non-blocking.

    Attributes:
        socket: the socket.
        address: where it listens, with the real port.
        owned_file: device and inode of the socket file, if this service has made it.
        handed_file: path, device and inode of the socket file, if the socket was handed over and the file was there.
        directory: where the path of the socket file begins, if it is relative: the application may go elsewhere.
    """

    socket: socket.socket
    address: Address
    owned_file: tuple[int, int] | None = None
    handed_file: tuple[str, tuple[int, int]] | None = None
    directory: Path = field(default_factory=_working_directory)

    @property
    def is_unix(self) -> bool:
        """Whether the socket is a unix socket."""
        return self.socket.family == socket.AF_UNIX

    @property
    def is_inherited(self) -> bool:
        """Whether another process has the socket, too, or will have it."""
        return isinstance(self.address, DescriptorAddress)

    @property
    def listens(self) -> bool:
        """Whether clients can connect, because no process has shut the socket down."""
        try:
            if not self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return False
        except OSError:  # the descriptor is closed, or is another file's
            return False
        if not self.is_unix or not hasattr(select, "POLLRDHUP"):
            return True
        # A unix socket that was shut down still says that it listens (unix_shutdown of Linux).
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return not poll.poll(0)

    def lost_file(self) -> str | None:
        """Tell what has become of the file by which clients find a unix socket.

        Returns:
            ``removed``, or ``replaced`` by another file; None where the file is there, was never there, or can't be
            looked at.
        """
        own = self._own_file()
        file = self.handed_file if own is None else (own.path, self.owned_file)
        if file is None:
            return None
        path, identity = file
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return "removed"
        except OSError:
            return None
        return None if (found.st_dev, found.st_ino) == identity else "replaced"

    def listen_anew(self, files: SocketFiles, backlog: int) -> bool:
        """Listen again, after somebody has shut the socket down.

        Args:
            files: owner, group and mode of unix sockets.
            backlog: of the socket.

        Returns:
            Whether the descriptor now has another socket, which the other processes need as well.

        Raises:
            BindError: the address can't be listened at again.
        """
        if not self.is_unix:
            with contextlib.suppress(OSError):
                before = self.socket.getsockname()
                # A TCP socket that was shut down can listen again, for all processes that have it.
                self.socket.listen(backlog)
                # A port that the kernel had chosen is free by now.
                wanted = before[1]
                if isinstance(self.address, TcpAddress):
                    wanted = self.address.port
                if self.socket.getsockname()[1] == wanted:
                    return False
        if isinstance(self.address, DescriptorAddress):
            raise BindError(
                f"{self.address}: it was handed over, and can't be made anew here; whoever made it is to do "
                "that"
            )
        [other, *_] = _listen(self.address, files, backlog)
        os.dup2(other.socket.fileno(), self.socket.fileno(), inheritable=False)
        other.socket.close()
        self.owned_file = other.owned_file
        return True

    def close(self) -> None:
        """Remove the socket file, and close the socket; do nothing where that was done."""
        # The file goes first, so that nobody finds a file without a listener.
        self.remove_file()
        with contextlib.suppress(OSError):  # the application has closed the descriptor
            self.socket.close()

    def remove_file(self) -> None:
        """Remove the socket file if it is still the one that this service has made."""
        own = self._own_file()
        if own is not None and self.owned_file is not None:
            remove_socket_file(own, self.owned_file)

    def _own_file(self) -> UnixAddress | None:
        """Tell where the socket file is that this service has made."""
        if self.owned_file is None or not isinstance(self.address, UnixAddress):
            return None
        return UnixAddress(str(self.directory / self.address.path))


@contextlib.contextmanager
def open_sockets(
    addresses: Iterable[str], *, mode: str | SocketFiles, backlog: int
) -> Iterator[list[ListeningSocket]]:
    """Listen at all addresses, and close them at the end.

    Args:
        addresses: texts for `parse_address`.
        mode: permissions of unix sockets in octal, or a `SocketFiles`.
        backlog: of each socket.

    Raises:
        BindError: an address can't be listened at; no socket stays open.
    """
    files = SocketFiles(int(mode, 8)) if isinstance(mode, str) else mode
    with contextlib.ExitStack() as stack:
        opened: list[ListeningSocket] = []
        named: set[Address] = set()
        for text in addresses:
            address = parse_address(text)
            if address in named:
                raise BindError(f"{address}: it is named twice; leave one of them out")
            if not (isinstance(address, TcpAddress) and address.port == 0):
                named.add(address)
            for listening in _listen(address, files, backlog):
                stack.callback(listening.close)
                opened.append(listening)
        yield opened


def adopt_socket(
    descriptor: int, address: Address, owned_file: tuple[int, int] | None
) -> ListeningSocket:
    """Take over a listening socket that an earlier program in this process has opened.

    Args:
        descriptor: of the socket.
        address: where the socket listens.
        owned_file: as `ListeningSocket` has it.
    """
    listening = socket.socket(fileno=descriptor)
    listening.setblocking(False)
    return ListeningSocket(listening, address, owned_file, _file_of(listening, address))


def _listen(address: Address, files: SocketFiles, backlog: int) -> list[ListeningSocket]:
    match address:
        case UnixAddress():
            listening, owned_file = listen_unix(address, files, backlog)
            return [ListeningSocket(listening, address, owned_file)]
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
        found = found[:1]  # several sockets would get different ports
    with contextlib.ExitStack() as on_failure:
        opened = []
        for family, _, _, _, sockaddr in dict.fromkeys(found):
            listening = socket.socket(family, socket.SOCK_STREAM)
            on_failure.callback(listening.close)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit TCP_NODELAY, so that the last piece of an answer never waits for an ACK.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                listening.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_ACCEPT_SECONDS
                )
            if family == socket.AF_INET6:
                # Otherwise "[::]" would listen for IPv4, too, and another socket at "0.0.0.0" would fail.
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
        listening.detach()  # the process that handed the socket over may still need it
        raise
    listening.setblocking(False)
    return ListeningSocket(listening, address, None, _file_of(listening, address))


def _file_of(listening: socket.socket, address: Address) -> tuple[str, tuple[int, int]] | None:
    """Give path, device and inode of the file of a unix socket that was handed over; None where it can't be seen."""
    if listening.family != socket.AF_UNIX or not isinstance(address, DescriptorAddress):
        return None
    path = listening.getsockname()
    # A name as bytes is an abstract address. What a relative path is relative to, is not known.
    if not isinstance(path, str) or not path.startswith("/"):
        return None
    try:
        found = os.lstat(path)
    except OSError:  # it was made in another container, or its file is gone already
        return None
    return (path, (found.st_dev, found.st_ino)) if stat.S_ISSOCK(found.st_mode) else None


def _why_tcp(address: TcpAddress, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"{address}: {_who_listens(address.port)}"
        case errno.EACCES | errno.EPERM:
            return f"{address}: no permission for this port; ports below 1024 need a privilege"
        case errno.EADDRNOTAVAIL:
            return f"{address}: this machine has no such address"
        case errno.EINVAL if _is_link_local(address.host):
            return f"{address}: a link-local address needs its interface, such as [{address.host}%eth0]:{address.port}"
        case _:
            return f"{address}: {error.strerror}"


def _who_listens(port: int) -> str:
    # Imported here, since few starts fail.
    from uwsgibridge.system.listeners import listeners_at, name_process

    found = listeners_at(port)
    if os.getpid() in found:
        return (
            "the port is in use by this process itself, for another --bind; leave one of them out"
        )
    if not found:
        return "the port is in use; stop what listens there, or use another --bind"
    return f"the port is in use by {name_process(found[0])}; stop it, or use another --bind"


def _is_link_local(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_link_local
    return False
