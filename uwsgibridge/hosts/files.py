"""Files as answers: ``wsgi.file_wrapper``, whose regular files the kernel sends.

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

# Errors of sendfile(2) where a file system can't do it. Then the file is read instead.
CANT_SEND_FILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class FileWrapper:
    """An iterable over a file-like object, which `environ["wsgi.file_wrapper"]` makes.

    Args:
        filelike: an object with ``read(size)``; its ``close``, if any, becomes that of the iterable.
        block_size: bytes of a block, where the object has to be read block by block.
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
        descriptor: of the file object, which owns it.
        offset: where to begin, in bytes.
        size_bytes: bytes from the offset to the end of the file.
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
        The file from the object's present position on. None for objects that must be read by their ``read``:
        pipes, sockets, files in memory, and wrappers that change the bytes.
    """
    # Only plain classes count: a wrapper may have the descriptor of a file, and read other bytes than the file has.
    opened = filelike
    if type(filelike) is tempfile._TemporaryFileWrapper:  # noqa: SLF001 - the class of NamedTemporaryFile's objects
        opened = filelike.file
    raw = opened.raw if type(opened) in {io.BufferedReader, io.BufferedRandom} else opened
    if type(raw) is not io.FileIO:
        return None
    try:
        if type(opened) is io.BufferedRandom:
            opened.flush()  # so that the file has all that was written
        status = os.fstat(raw.fileno())
        # tell, not lseek: the object may have read ahead.
        offset = opened.tell()
    except (OSError, ValueError):
        return None
    # Files in /proc and the like have size 0 until they are read.
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    return OpenFile(raw.fileno(), offset, max(0, status.st_size - offset))
