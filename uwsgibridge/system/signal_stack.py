"""The stack that handlers of signals run on: large enough for all that can come at once.

`faulthandler.enable` gives the main thread a stack of its own for that, since a crash may be one of the
ordinary stack, and CPython has all its handlers run there (SA_ONSTACK). It has room for some frames. The kernel
puts one there for each signal that waits, before the first handler has run, with all of the CPU's registers in it:
six different signals to a process that had no turn meanwhile ended it by SIGSEGV.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Final

# For each of Linux's 64 signals, with 11 KiB of registers each (AVX-512 and AMX); memory that is never touched
# is none.
_STACK_BYTES: Final = 1_048_576


class _Stack(ctypes.Structure):
    """stack_t of Linux (sigaltstack(2))."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_kept: list[object] = []


def enlarge_signal_stack() -> None:
    """Give this thread a larger signal stack, after `faulthandler.enable`; does nothing where the system has none."""
    if sys.platform != "linux":
        return
    try:
        memory = mmap.mmap(-1, _STACK_BYTES)
        start = ctypes.c_char.from_buffer(memory)
        stack = _Stack(ctypes.addressof(start), 0, _STACK_BYTES)
        if ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0:
            _kept.append(start)  # which holds the memory: for as long as the process lives
    except (OSError, ValueError, AttributeError):  # no memory, or a C library without it
        return
