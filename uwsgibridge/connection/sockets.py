"""Makes, adopts and closes listening sockets: TCP, unix and inherited ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from uwsgibridge.config.address import (
    MAX_UNIX_PATH_BYTES,
    Address,
    DescriptorAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
)
from uwsgibridge.connection.socket_files import SocketFiles
from uwsgibridge.errors import BindError
from uwsgibridge.system.reasons import why_not_made
from uwsgibridge.system.safe_path import (
    Place,
    UnsafePathError,
    acting_as,
    give_held,
    name_user,
    open_place,
)

# How long the kernel holds back a TCP connection that has sent nothing. nginx sends right after its connect, so that
# accept() finds the whole packet. A silent connection comes into the backlog after this time.
_DEFER_ACCEPT_SECONDS: Final = 1

# How long to wait for other processes that make a socket in the same directory, which takes them microseconds.
# Somebody else who holds the lock for longer does not keep a service from starting.
_TURN_SECONDS: Final = 2.0
_TURN_RETRY_SECONDS: Final = 0.002

_NO_PERMISSION: Final = frozenset({errno.EACCES, errno.EPERM})


@dataclass(slots=True, eq=False)
class ListeningSocket:
    """A bound and listening socket, non-blocking.

    Attributes:
        socket: the socket.
        address: where it listens, with the real port.
        owned_file: device and inode of the socket file, if this service has made it.
    """

    socket: socket.socket
    address: Address
    owned_file: tuple[int, int] | None = None

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
        if self.owned_file is not None and isinstance(self.address, UnixAddress):
            with (
                contextlib.suppress(OSError, UnsafePathError),
                open_place(self.address.path) as place,
            ):
                if _identity(place.name, place) == self.owned_file:
                    os.unlink(place.name, dir_fd=place.directory)


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
        for text in addresses:
            for listening in _listen(parse_address(text), files, backlog):
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
    return ListeningSocket(listening, address, owned_file)


def _listen(address: Address, files: SocketFiles, backlog: int) -> list[ListeningSocket]:
    match address:
        case UnixAddress():
            return [_listen_unix(address, files, backlog)]
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


def _listen_unix(address: UnixAddress, files: SocketFiles, backlog: int) -> ListeningSocket:
    with _turn_in(Path(address.path).parent):
        return _listen_unix_alone(address, files, backlog)


@contextlib.contextmanager
def _turn_in(directory: Path) -> Iterator[None]:
    """Keep other processes from making a socket in a directory meanwhile, so that the first one wins.

    The lock is on the directory itself, so that no lock file stays behind.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # binding in the directory will say why
        yield
        return
    try:
        deadline = monotonic() + _TURN_SECONDS
        while not _try_to_lock(descriptor) and monotonic() < deadline:
            sleep(_TURN_RETRY_SECONDS)  # flock(2) itself would wait for ever
        yield
    finally:
        os.close(descriptor)


def _try_to_lock(descriptor: int) -> bool:
    """Lock a directory; False where another process has the lock. True also on file systems without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _listen_unix_alone(address: UnixAddress, files: SocketFiles, backlog: int) -> ListeningSocket:
    _refuse_live_socket(address.path)
    try:
        if os.geteuid() == 0 and files.maker is not None and files.maker[0] != 0:
            # In a directory of the user's own, root acts with the user's rights. So a link of the user's leads
            # to no place that the user may not reach.
            maker = files.maker
            with contextlib.suppress(PermissionError):
                return _make_socket_file(address, files, backlog, lambda: acting_as(*maker))
        return _make_socket_file(address, files, backlog, contextlib.nullcontext)
    except UnsafePathError as error:
        raise BindError(f"{address}: {error}") from None
    except OSError as error:
        raise BindError(_why_unix(address, error)) from None


def _make_socket_file(
    address: UnixAddress,
    files: SocketFiles,
    backlog: int,
    rights: Callable[[], contextlib.AbstractContextManager[None]],
) -> ListeningSocket:
    # The socket is bound under a temporary name, made accessible, and then renamed. So no client finds a socket
    # that refuses it, and a stale socket is replaced in one step.
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as on_failure:
        on_failure.callback(listening.close)
        with rights():
            place = stack.enter_context(open_place(address.path))
            temporary = _temporary_name(address.path, place.name)

            def remove_temporary() -> None:
                with contextlib.suppress(FileNotFoundError), rights():
                    os.unlink(temporary, dir_fd=place.directory)

            if _is_socket(temporary, place):
                remove_temporary()  # left by a killed process that had the same number
            _bind(listening, address, place, temporary, files.mode)
            on_failure.callback(remove_temporary)
        identity = _give(place, temporary, files)
        listening.listen(backlog)
        with rights():
            os.rename(temporary, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
        listening.setblocking(False)
        on_failure.pop_all()
    return ListeningSocket(listening, address, identity)


def _temporary_name(path: str, name: str) -> str:
    suffix = f".{os.getpid() % 1000}"
    is_short = len(os.fsencode(path + suffix)) <= MAX_UNIX_PATH_BYTES
    return name + suffix if is_short else suffix


def _bind(
    listening: socket.socket, address: UnixAddress, place: Place, name: str, mode: int
) -> None:
    """Bind to a name in a directory, with the right permissions from the first moment."""
    # On Linux, bind(2) takes the permissions from the socket itself (unix_bind in net/unix/af_unix.c). This works
    # also where the directory has an access control list, with which the umask has no effect.
    with contextlib.suppress(OSError):
        os.fchmod(listening.fileno(), mode)
    path = os.path.join(os.path.dirname(address.path), name)  # noqa: PTH118, PTH120 - keeps the path as it was written
    if place.exposed is not None or len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES:
        path = place.through_descriptor(name)
    before = os.umask(0o777 & ~mode)
    try:
        listening.bind(path)
    finally:
        os.umask(before)


def _give(place: Place, name: str, files: SocketFiles) -> tuple[int, int]:
    """Give the new socket file its owner.

    Returns:
        Device and inode of the file.
    """
    if not hasattr(os, "O_PATH"):  # macOS
        if (files.uid, files.gid) != (-1, -1):
            os.chown(name, files.uid, files.gid, dir_fd=place.directory, follow_symlinks=False)
        return _identity(name, place)
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.directory)
    try:
        found = os.fstat(held)
        # Somebody else who can write here may have replaced the file. Another file must not be given away.
        makers = {os.geteuid(), files.maker[0] if files.maker is not None else os.geteuid()}
        if not stat.S_ISSOCK(found.st_mode) or found.st_nlink != 1 or found.st_uid not in makers:
            raise UnsafePathError(
                f"another user has replaced the socket in {place.path} while it was made; take a "
                "directory that nobody else can write"
            )
        wanted = (
            found.st_uid if files.uid == -1 else files.uid,
            found.st_gid if files.gid == -1 else files.gid,
        )
        if wanted != (found.st_uid, found.st_gid):
            try:
                give_held(held, *wanted)
            except OSError as error:
                raise UnsafePathError(
                    f"the socket can't be given to {name_user(wanted[0])} with group {wanted[1]} "
                    f"(--socket-owner, --user, --group): {error.strerror}"
                ) from None
    finally:
        os.close(held)
    return found.st_dev, found.st_ino


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
    return ListeningSocket(listening, address)


def _refuse_live_socket(path: str) -> None:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise BindError(_why_unix(UnixAddress(path), error)) from None
    if not stat.S_ISSOCK(found.st_mode):
        raise BindError(
            f"unix:{path}: there is a file that is not a socket; remove it, or use another path"
        )
    number = _try_to_connect(path)
    if number in _NO_PERMISSION and os.geteuid() == 0:
        # Root without CAP_DAC_OVERRIDE, as in a container, has fewer rights than the owner of the file.
        with contextlib.suppress(OSError), acting_as(found.st_uid, found.st_gid):
            number = _try_to_connect(path)
    if number in {errno.ECONNREFUSED, errno.ENOENT}:  # ENOENT: the file has just been removed
        return  # the socket is stale: nobody listens any more
    if number in _NO_PERMISSION:
        raise BindError(
            f"unix:{path}: {name_user(os.geteuid())} may not connect to the socket of "
            f"{name_user(found.st_uid)} that is there, to learn whether somebody listens; remove it, or use "
            "another path"
        )
    if number not in {
        0,
        errno.EAGAIN,
        errno.EINPROGRESS,
    }:  # EAGAIN: somebody listens, and the backlog is full
        raise BindError(_why_unix(UnixAddress(path), OSError(number, os.strerror(number))))
    raise BindError(f"unix:{path}: another process listens there; stop it, or use another path")


def _try_to_connect(path: str) -> int:
    """Connect without waiting, and close the connection; give the error number, or 0."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path)


def _identity(name: str, place: Place) -> tuple[int, int]:
    found = os.stat(name, dir_fd=place.directory, follow_symlinks=False)
    return found.st_dev, found.st_ino


def _is_socket(name: str, place: Place) -> bool:
    try:
        found = os.stat(name, dir_fd=place.directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISSOCK(found.st_mode)


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
    return f"{address}: {why_not_made(error, Path(address.path).parent, 'create a socket')}"
