"""Makes, replaces and removes the files of unix sockets, also in directories that others may write."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from uwsgibridge.config.address import MAX_UNIX_PATH_BYTES, UnixAddress
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

# How long to wait for other processes that make a socket in the same directory, which takes them microseconds.
# Somebody else who holds the lock for longer does not keep a service from starting.
_TURN_SECONDS: Final = 2.0
_TURN_RETRY_SECONDS: Final = 0.002

_NO_PERMISSION: Final = frozenset({errno.EACCES, errno.EPERM})


def listen_unix(
    address: UnixAddress, files: SocketFiles, backlog: int
) -> tuple[socket.socket, tuple[int, int]]:
    """Make a socket file, and listen at it.

    A file that nobody listens at is replaced, in one step.

    Args:
        address: the path of the file.
        files: owner and permissions of the file.
        backlog: how many connections may wait.

    Returns:
        The socket, non-blocking, and device and inode of the file.

    Raises:
        BindError: another process listens there, or the file can't be made.
    """
    with _turn_in(Path(address.path).parent):
        return _listen_unix_alone(address, files, backlog)


def remove_socket_file(address: UnixAddress, owned_file: tuple[int, int]) -> None:
    """Remove the socket file, if it still has this device and inode."""
    with contextlib.suppress(OSError, UnsafePathError), open_place(address.path) as place:
        if _identity(place.name, place) == owned_file:
            os.unlink(place.name, dir_fd=place.directory)


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


def _listen_unix_alone(
    address: UnixAddress, files: SocketFiles, backlog: int
) -> tuple[socket.socket, tuple[int, int]]:
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
) -> tuple[socket.socket, tuple[int, int]]:
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
    return listening, identity


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
                hint = (
                    "; a container needs the capability CHOWN for it" if os.geteuid() == 0 else ""
                )
                raise UnsafePathError(
                    f"the socket can't be given to {name_user(wanted[0])} with group {wanted[1]} "
                    f"(--socket-owner, --user, --group): {error.strerror}{hint}"
                ) from None
    finally:
        os.close(held)
    return found.st_dev, found.st_ino


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
    who = _listener_of(path)
    if who == os.getpid():
        raise BindError(f"unix:{path}: this process itself listens there; leave one of them out")
    # Imported here, since few starts fail.
    from uwsgibridge.system.listeners import name_process

    named = f", {name_process(who)}" if who else ""
    raise BindError(
        f"unix:{path}: another process listens there{named}; stop it, or use another path"
    )


def _listener_of(path: str) -> int:
    """Give the process that has made a socket listen (SO_PEERCRED of unix(7)); 0 where that can't be told."""
    if sys.platform != "linux":
        return 0
    # Imported here, since few starts fail.
    from uwsgibridge.connection.peers import credentials_of

    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.connect(path)
        return credentials_of(client)[0]
    return 0


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


def _why_unix(address: UnixAddress, error: OSError) -> str:
    path = Path(address.path)
    return f"{address}: {why_not_made(error, path.parent, 'create a socket', path.name)}"
