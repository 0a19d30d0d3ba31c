"""Makes the stack that signal handlers run on large enough for all signals that can come at once.

`faulthandler.enable` gives the main thread a signal stack, since a crash may come from an overflow of the ordinary
stack. CPython runs all its handlers there (SA_ONSTACK). The stack of `faulthandler` has room for some frames. Before
the first handler runs, the kernel puts a frame there for each signal that waits, with all registers of the CPU. So
six different signals to a process that had no turn meanwhile ended it by SIGSEGV.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Final

# Room for each of Linux's 64 signals, with 11 KiB of registers each (AVX-512 and AMX). Untouched memory costs
# nothing.
_STACK_BYTES: Final = 1_048_576


class _Stack(ctypes.Structure):
    """stack_t of Linux (sigaltstack(2))."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def enlarge_signal_stack() -> None:
    """Give this thread a larger signal stack, after `faulthandler.enable`; does nothing where the system has none."""
    if sys.platform != "linux":
        return
    try:
        memory = mmap.mmap(-1, _STACK_BYTES)
        start = ctypes.c_char.from_buffer(memory)
        stack = _Stack(ctypes.addressof(start), 0, _STACK_BYTES)
        if ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0:
            # Never given back: Python's end would free it, and signals come after that as well.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(start))
    except (
        OSError,
        ValueError,
        AttributeError,
    ):  # there is no memory, or the C library has no sigaltstack
        return
