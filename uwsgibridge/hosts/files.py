"""Files as answers: ``wsgi.file_wrapper``, sent by the kernel where it is a regular file.

PEP 3333, "Optional Platform-Specific File Handling".
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

# sendfile(2) says so where a file system can't do it; then it has to be read.
CANT_SEND_FILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class FileWrapper:
    """An iterable over a file-like object; what `environ["wsgi.file_wrapper"]` gives.

    Args:
        filelike: with ``read(size)``; its ``close``, if any, becomes the iterable's.
        block_size: bytes of a block, where it has to be read block by block.
    """

    def __init__(self, filelike: Any, block_size: int = 65_536) -> None:
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        while block := self.filelike.read(self.block_size):
            yield block


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file, open for reading.

    Attributes:
        descriptor: owned by the file object that it came from.
        offset: where to begin, in bytes.
        size_bytes: from there to the end of the file.
    """

    descriptor: int
    offset: int
    size_bytes: int

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Read at an absolute offset, without moving the file's own position."""
        return os.pread(self.descriptor, size_bytes, offset)


def regular_file(filelike: Any) -> OpenFile | None:
    """Look whether a file-like object is a regular file with a descriptor.

    Returns:
        The file from the object's present position on; None for what must be read through its
        ``read``: pipes, sockets, files in memory, and wrappers that change the bytes.
    """
    # Only the plain classes: what wraps a file may give its descriptor, and other bytes than it has.
    opened = filelike
    if type(filelike) is tempfile._TemporaryFileWrapper:  # noqa: SLF001 - what NamedTemporaryFile gives
        opened = filelike.file
    raw = opened.raw if type(opened) in {io.BufferedReader, io.BufferedRandom} else opened
    if type(raw) is not io.FileIO:
        return None
    try:
        if type(opened) is io.BufferedRandom:
            opened.flush()  # what was written to it, and is not in the file yet
        status = os.fstat(raw.fileno())
        # Not lseek: the object may have read ahead.
        offset = opened.tell()
    except (OSError, ValueError):
        return None
    # Of those in /proc and the like, the kernel knows no size before they are read.
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    return OpenFile(raw.fileno(), offset, max(0, status.st_size - offset))
