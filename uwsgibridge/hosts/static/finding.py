"""Finds the file that a path names below the URLs of ``--static``."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from uwsgibridge.hosts.opening import open_beneath
from uwsgibridge.protocol.conditions import Validators
from uwsgibridge.protocol.request import is_below

# Errors which say that a path names no regular file. The last one is that of a socket.
_NO_FILE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENXIO}
)

# Errors of a path that has a link, or something else than a directory before its last part.
_MAY_BE_LINK: Final = frozenset({errno.ELOOP, errno.ENOTDIR})

# No file has a longer path (PATH_MAX of Linux). The parts of a path that is no file may have to be looked at one by one.
_MAX_PATH_BYTES: Final = 4096

# Nanoseconds in a second.
_SECOND: Final = 1_000_000_000


class FoundFile(NamedTuple):
    """A regular file, open for reading.

    Attributes:
        descriptor: of the file; the caller closes it.
        path: of the file, where the last part may be a link.
        size_bytes: of the file.
        validators: tell its state from others.
    """

    descriptor: int
    path: bytes
    size_bytes: int
    validators: Validators


class StaticFiles:
    """The URLs of ``--static`` and what is served below them.

    Args:
        maps: pairs of a URL's prefix, without a slash at its end, and the path of a directory or a file. Of one prefix,
            the first directory that has the file wins.

    Attributes:
        prefixes: all prefixes as PATH_INFO has them; the longest ones first.
    """

    def __init__(self, maps: Iterable[tuple[str, str]]) -> None:
        targets: dict[str, list[bytes]] = {}
        for prefix, target in maps:
            # PATH_INFO has UTF-8 bytes, decoded as latin-1. The application may change the working directory.
            on_the_wire = prefix.encode().decode("latin-1")
            targets.setdefault(on_the_wire, []).append(os.fsencode(os.path.abspath(target)))  # noqa: PTH100 - links stay
        self.prefixes = tuple(sorted(targets, key=len, reverse=True))
        self._targets = targets

    def covers(self, path: str) -> bool:
        """Whether a path is at or below one of the URLs."""
        return any(is_below(path, prefix) for prefix in self.prefixes)

    def find(self, path: str) -> FoundFile | None:
        """Find and open the file of a path; this may wait for a disk.

        Args:
            path: PATH_INFO.

        Returns:
            The file; None where there is none.

        Raises:
            OSError: the file can't be opened, though it may be there.
        """
        for prefix in self.prefixes:
            if is_below(path, prefix):
                return self._find_below(prefix, path)
        return None

    def _find_below(self, prefix: str, path: str) -> FoundFile | None:
        rest = path[len(prefix) :]
        if len(rest) > _MAX_PATH_BYTES:
            return None
        parts = [part.encode("latin-1") for part in rest.split("/")[1:]]
        if any(part in {b"", b".", b".."} or b"\0" in part for part in parts):
            return None
        for target in self._targets[prefix]:
            try:
                found = _open(target, parts)
            except OSError as error:
                if error.errno not in _NO_FILE:
                    raise
            else:
                if found is not None:
                    return found
        return None


def _open(target: bytes, parts: Sequence[bytes]) -> FoundFile | None:
    """Open a file, at a path that the operator has named or below it.

    Raises:
        OSError: the file is not there, or can't be opened.
    """
    path = b"/".join((target, *parts))
    if not parts:
        # O_NONBLOCK, because opening a FIFO may wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return _regular_file(os.open(target, flags), path)
    try:
        return _regular_file(open_beneath(target, parts, follows=True), path)
    except OSError as error:
        if error.errno not in _MAY_BE_LINK:
            raise
    directory = os.path.realpath(target).rstrip(b"/") + b"/"
    path = os.path.realpath(path)
    if not path.startswith(directory):
        return None  # a link leads out
    # No part of this path is a link. Where somebody puts one there meanwhile, it is not followed.
    below = path.removeprefix(directory).split(b"/")
    return _regular_file(open_beneath(directory, below, follows=True), path)


def _regular_file(descriptor: int, path: bytes) -> FoundFile | None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    # The file may change twice within a second, which its time in whole seconds would not show.
    etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    validators = Validators(etag, status.st_mtime_ns // _SECOND)
    return FoundFile(descriptor, path, status.st_size, validators)
