"""Descriptors 0 to 2, which whoever starts a program may have closed."""

from __future__ import annotations

import os
import sys
from typing import IO, Final

_NAMES: Final = ("stdin", "stdout", "stderr")


def open_standard_streams() -> None:
    """Open those of the descriptors 0 to 2 that are closed on `os.devnull`.

    Else the first socket or file gets such a number, and is written to by whatever prints, closed by
    whatever redirects, and inherited by each program. To be called before anything is opened that stays
    open.
    """
    for descriptor, name in enumerate(_NAMES):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free: those below are open by now.
            nowhere = os.open(os.devnull, os.O_RDWR)
            assert nowhere == descriptor
            os.set_inheritable(descriptor, True)
        # Python has None for a descriptor that was closed as it began.
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
