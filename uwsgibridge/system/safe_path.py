"""Lets root reach a file whose path other users may be able to change: step by step, by descriptors.

Each system call looks a path up anew. A user who can write in one of its directories can put a link there between
two calls, or before the first one. Root would then open, give away or replace a file of that user's choice. So
root either acts with the rights of the user who is to have the file, or keeps the directory open, which it has
reached without any link that another user could have made.

The rule for links is that of Linux's ``fs.protected_symlinks`` and of ``CHASE_SAFE`` in systemd
(src/basic/chase.c). The rule for directories is logrotate's ("insecure permissions").
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from uwsgibridge.quick_dataclass import dataclass

_ROOT: Final = 0

# MAXSYMLINKS of Linux.
_MAX_LINKS: Final = 40

# Without O_PATH (macOS), only a readable directory can be held open.
_HOLD: Final[int] = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


class UnsafePathError(Exception):
    """Root must not use the path; the message ends a sentence, and says why and what would help."""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that is held open, and a name in it.

    Attributes:
        directory: a descriptor, which `open_place` closes.
        name: of the file in the directory; the file need not exist.
        path: of the directory, as it was reached.
        exposed: who else can change what the path leads to, as the beginning of a sentence; None where
            only root can.
        is_shared: whether everybody can make files in the directory, but not replace those of others, as in /tmp.
        is_kernels: whether the directory is in /proc, where the kernel makes the links.
    """

    directory: int
    name: str
    path: str
    exposed: str | None
    is_shared: bool
    is_kernels: bool

    @property
    def is_roots_alone(self) -> bool:
        """Whether nobody but root can make, remove or replace a file here."""
        return self.exposed is None and not self.is_shared

    def through_descriptor(self, name: str) -> str:
        """Give a path to a name in this very directory, also where the directory's path has changed."""
        return f"/proc/self/fd/{self.directory}/{name}"


@contextlib.contextmanager
def open_place(path: str | Path) -> Iterator[Place]:
    """Hold the directory of a file open, and give the directory with the file's name.

    Root follows no link that another user can have made, and learns who else can change the place. Where the
    file itself is a link, root resolves it in the same way. For other users, the kernel looks the path up as
    usual, and nothing is exposed.

    Args:
        path: of the file; a relative one begins in the current directory.

    Raises:
        UnsafePathError: another user could lead root elsewhere by a link.
        OSError: there is no such directory, or this process may not enter it.
    """
    if os.geteuid() == _ROOT:
        place = _Walk(path).run()
    else:
        head, name = os.path.split(os.fspath(path))
        place = Place(os.open(head or ".", _HOLD), name, head or ".", None, False, False)
    try:
        yield place
    finally:
        os.close(place.directory)


@contextlib.contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Have root run a block with the rights of another user only.

    This holds for all threads of the process. The real user stays root, so that the other user can't signal it.

    Args:
        uid: of the user.
        gid: of the group, beside the groups that the system's list gives that user.

    Raises:
        OSError: the system refuses it.
    """
    before = os.getgroups(), os.getegid(), os.geteuid()
    try:
        set_groups(uid, gid)
        os.setegid(gid)
        os.seteuid(uid)
        yield
    finally:
        groups, own_gid, own_uid = before
        os.seteuid(own_uid)
        os.setegid(own_gid)
        os.setgroups(groups)


def set_groups(uid: int, gid: int) -> None:
    """Take a user's groups from the system's list; for a number without a name, only `gid`.

    Raises:
        OSError: the system refuses it.
    """
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        os.setgroups([gid])
    else:
        os.initgroups(name, gid)


def give_held(descriptor: int, uid: int, gid: int) -> None:
    """Change the owner of a file that is held open with ``O_PATH``, wherever its path leads by now.

    Args:
        descriptor: of the file.
        uid: of the owner; -1 changes nothing.
        gid: of the group; -1 changes nothing.

    Raises:
        OSError: the system refuses it, or has no /proc.
    """
    # fchown() refuses such a descriptor (open(2), O_PATH). Its link in /proc leads to the file itself.
    os.chown(f"/proc/self/fd/{descriptor}", uid, gid)


def exposure_of(status: os.stat_result, path: str) -> str | None:
    """Say who beside root can write in a file or directory; None where nobody can.

    Args:
        status: of the file or directory.
        path: the path to name in the sentence.
    """
    writers = _writers(status)
    return None if writers is None else f"{writers} can change {path}"


def name_user(uid: int) -> str:
    """Give a user's name, or ``user 1000`` for a number without one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


class _Walk:
    """The way from the root directory to a file."""

    def __init__(self, path: str | Path) -> None:
        self._kernels = _device_of("/proc")
        self._steps = _steps(os.path.join(os.getcwd(), os.fspath(path)))  # noqa: PTH109, PTH118 - keeps ".."
        self._links = 0
        self._exposed: str | None = None
        self._directory = -1
        self._begin()

    def run(self) -> Place:
        try:
            while True:
                here = self._look_around()
                name = self._steps.pop() if self._steps else "."
                if self._steps:
                    self._enter(name, here)
                    continue
                is_kernels = here.st_dev == self._kernels
                target = None if is_kernels else self._read_link(name)
                if target is None:
                    is_shared = bool(here.st_mode & stat.S_ISVTX) and _writers(here) is not None
                    path = "/" + "/".join(self._path)
                    return Place(self._directory, name, path, self._exposed, is_shared, is_kernels)
                self._follow(name, target, here)
        except BaseException:
            os.close(self._directory)
            raise

    def _begin(self) -> None:
        self._path: list[str] = []
        self._move("/")

    def _move(self, name: str) -> None:
        before = self._directory
        self._directory = os.open(
            name, _HOLD | os.O_NOFOLLOW, dir_fd=before if before >= 0 else None
        )
        if before >= 0:
            os.close(before)

    def _look_around(self) -> os.stat_result:
        """Record who beside root can change the directory that was reached."""
        here = os.fstat(self._directory)
        is_open = not here.st_mode & stat.S_ISVTX and not _is_read_only(self._directory)
        if self._exposed is None and is_open:
            self._exposed = exposure_of(here, "/" + "/".join(self._path))
        return here

    def _enter(self, name: str, here: os.stat_result) -> None:
        try:
            self._move(name)
        except OSError as error:
            # A link gives ELOOP, or with O_PATH ENOTDIR.
            target = self._read_link(name) if error.errno in {errno.ENOTDIR, errno.ELOOP} else None
            if target is None:
                raise
            self._follow(name, target, here)
        else:
            if name == "..":
                self._path = self._path[:-1]
            else:
                self._path.append(name)

    def _read_link(self, name: str) -> str | None:
        try:
            return os.readlink(name, dir_fd=self._directory)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOENT}:  # EINVAL: no link; ENOENT: no such file
                return None
            raise

    def _follow(self, name: str, target: str, here: os.stat_result) -> None:
        link = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        shown = "/" + "/".join([*self._path, name])
        if self._exposed is not None:
            raise UnsafePathError(
                f"{self._exposed}, so root does not follow the link {shown}: name the place that it "
                "leads to, or take a directory that only root can write"
            )
        if here.st_mode & stat.S_ISVTX and link.st_uid != _ROOT:
            raise UnsafePathError(
                f"root does not follow the link {shown} of {name_user(link.st_uid)}: name the place "
                "that it leads to"
            )
        self._links += 1
        if self._links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            self._begin_anew()
        self._steps.extend(_steps(target))

    def _begin_anew(self) -> None:
        os.close(self._directory)
        self._directory = -1
        self._begin()


def _steps(path: str) -> list[str]:
    """Give the names in a path, the first one last."""
    return [it for it in reversed(path.split("/")) if it not in {"", "."}]


def _is_read_only(directory: int) -> bool:
    """Whether the file system is read-only. Kubernetes mounts configuration so, with a mode that lets all write."""
    try:
        return bool(os.fstatvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _device_of(path: str) -> int | None:
    try:
        return Path(path).stat().st_dev
    except OSError:
        return None


def _writers(status: os.stat_result) -> str | None:
    """Tell who beside root can write in a directory; None where nobody can."""
    if status.st_uid != _ROOT:
        return name_user(status.st_uid)
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid != _ROOT:
        try:
            return f"the group {grp.getgrgid(status.st_gid).gr_name}"
        except KeyError:
            return f"the group {status.st_gid}"
    return None
