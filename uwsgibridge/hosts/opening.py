"""Opens files below a directory, so that nothing in their paths leads out of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC

# Opening a FIFO may wait for a writer, and a terminal may become that of this process.
_LAST: Final = os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW


def open_beneath(
    directory: str | bytes, parts: Sequence[str | bytes], *, follows: bool = False
) -> int:
    """Open a file for reading, no part of whose path may be a link.

    Args:
        directory: the path of the directory.
        parts: the names of the directories below it and of the file. None of them is empty, ``.`` or ``..``, or has a slash.
        follows: whether the directory itself may be a link, as its owner has named it.

    Returns:
        A descriptor, which may be that of something else than a regular file.

    Raises:
        OSError: there is no such file, it can't be opened, or its path has a link.
        ValueError: a part has a NUL.
    """
    descriptor = os.open(directory, _FLAGS | os.O_DIRECTORY | (0 if follows else os.O_NOFOLLOW))
    for left, part in zip(reversed(range(len(parts))), parts, strict=True):
        try:
            more = os.O_DIRECTORY | os.O_NOFOLLOW if left else _LAST
            below = os.open(part, _FLAGS | more, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor
