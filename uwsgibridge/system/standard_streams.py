"""Opens descriptors 0 to 2, which the starter of a program may have closed."""

from __future__ import annotations

import os
import sys
from typing import IO, Final

_NAMES: Final = ("stdin", "stdout", "stderr")


def open_standard_streams() -> None:
    """Open each closed one of the descriptors 0 to 2 on `os.devnull`.

    Otherwise the first socket or file would get such a number. Code that prints would then write to it, code
    that redirects would close it, and each program would inherit it. Call this before anything else is opened.
    """
    for descriptor, name in enumerate(_NAMES):
        try:
            os.fstat(descriptor)
        except OSError:
            # os.open takes the lowest free number, and all lower ones are open by now.
            nowhere = os.open(os.devnull, os.O_RDWR)
            assert nowhere == descriptor
            os.set_inheritable(descriptor, True)
        # Python has None for a stream whose descriptor was closed at its start.
        if getattr(sys, name) is None:
            stream = _open(descriptor)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _open(descriptor: int) -> IO[str]:
    if descriptor == 0:
        return open(descriptor, encoding="utf-8", closefd=False)
    return open(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
