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
from typing import Any, Final, NamedTuple

from uwsgibridge.fast import accelerator

# Errors of sendfile(2) where a file system can't do it. Then the file is read instead.
CANT_SEND_FILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

# A file up to this size is read and sent with the head. To copy a larger one costs more than a call of sendfile.
WHOLE_BYTES: Final = 16_384

# How much of a larger file is read and sent with the head: an error of reading is then met before the head is sent.
FIRST_PIECE_BYTES: Final = 4096

_BUFFERED: Final = frozenset({io.BufferedReader, io.BufferedRandom})


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


class OpenFile(NamedTuple):
    """A regular file, open for reading.

    Attributes:
        descriptor: of the file object, which owns it.
        offset: where to begin, in bytes.
        size_bytes: bytes from the offset to the end of the file.
        first_piece: the first of these bytes; all of them where they are few.
    """

    descriptor: int
    offset: int
    size_bytes: int
    first_piece: bytes

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Read at an absolute offset, without moving the file's own position."""
        return os.pread(self.descriptor, size_bytes, offset)


def begin_file(descriptor: int, offset: int) -> OpenFile:
    """Look how large a file is, and read its first piece.

    Args:
        descriptor: of the file.
        offset: where to begin, in bytes.

    Raises:
        OSError: the file can't be read.
    """
    return _begin_plain_file(descriptor, offset) or _begin_any_file(
        descriptor, offset, os.fstat(descriptor).st_size
    )


def _begin_plain_file(descriptor: int, offset: int) -> OpenFile | None:
    if accelerator is not None:
        begun = accelerator.begin_file(descriptor, offset, WHOLE_BYTES, FIRST_PIECE_BYTES)
        if begun is not None:
            return OpenFile(descriptor, offset, *begun)
    return None


def _begin_any_file(descriptor: int, offset: int, size_bytes: int) -> OpenFile:
    available = max(0, size_bytes - offset)
    wanted = available if available <= WHOLE_BYTES else FIRST_PIECE_BYTES
    first_piece = os.pread(descriptor, wanted, offset)
    if len(first_piece) < wanted:
        available = len(first_piece)  # some files (in /sys) have fewer bytes than their size says
    return OpenFile(descriptor, offset, available, first_piece)


def regular_file(filelike: Any) -> OpenFile | None:
    """Look whether a file-like object is a regular file with a descriptor.

    Returns:
        The file from the object's present position on. None for objects that must be read by their ``read``:
        pipes, sockets, files in memory, wrappers that change the bytes, and what fails here.
    """
    # Only plain classes count: a wrapper may have the descriptor of a file, and read other bytes than the file has.
    opened = filelike
    if type(filelike) is tempfile._TemporaryFileWrapper:  # noqa: SLF001 - the class of NamedTemporaryFile's objects
        opened = filelike.file
    raw = opened.raw if type(opened) in _BUFFERED else opened
    if type(raw) is not io.FileIO:
        return None
    try:
        if type(opened) is io.BufferedRandom:
            opened.flush()  # so that the file has all that was written
        descriptor = raw.fileno()
        # tell, not lseek: the object may have read ahead.
        offset = opened.tell()
        if (begun := _begin_plain_file(descriptor, offset)) is not None:
            return begun
        status = os.fstat(descriptor)
        # Files in /proc and the like have size 0 until they are read.
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return None
        return _begin_any_file(descriptor, offset, status.st_size)
    except (OSError, ValueError):
        return None
