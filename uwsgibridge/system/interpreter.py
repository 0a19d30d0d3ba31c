"""Tells whether Python runs without its global lock, the GIL (PEP 703), and ends the interpreter."""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import sys
import threading
from typing import NoReturn


def is_free_threaded() -> bool:
    """Whether this Python was built so that it can run without the GIL."""
    # PEP 703 gives such a build the flag "t". `sysconfig` reads a file for its answer, which a service that has given up
    # root may not be allowed to.
    return "t" in sys.abiflags


def runs_without_gil() -> bool:
    """Whether no GIL is held now; an extension module that is imported later may bring it back."""
    is_enabled = getattr(sys, "_is_gil_enabled", None)  # from Python 3.13 on
    return is_enabled is not None and not is_enabled()


def gil_was_brought_back() -> bool:
    """Whether a free-threaded Python runs with the GIL, although nobody has asked for that (PYTHON_GIL, ``-X gil``).

    Python does so when a module is imported that does not declare to do without.
    """
    asks = os.environ.get("PYTHON_GIL") == "1" or sys._xoptions.get("gil") == "1"  # noqa: SLF001 - documented
    return is_free_threaded() and not runs_without_gil() and not asks


def describe_python() -> str:
    """Give Python's version, and how a free-threaded one runs, for people."""
    version = platform.python_version()
    if not is_free_threaded():
        return version
    return f"{version} (free-threaded, {'without' if runs_without_gil() else 'with'} the GIL)"


def end_interpreter(status: int) -> NoReturn:
    """End this process with a status, also where Python was told to go on with a prompt (``-i``, PYTHONINSPECT).

    There, `sys.exit` writes a traceback, begins the prompt, and makes the status 1. In place of that, this function does what
    the interpreter does first at its end (Py_FinalizeEx in CPython's Python/pylifecycle.c): it waits for threads, calls the
    functions of `atexit`, and writes what was printed.

    Args:
        status: the exit status.
    """
    if not sys.flags.inspect:
        sys.exit(status)
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - there is no public way
    atexit._run_exitfuncs()  # noqa: SLF001 - see above
    for stream in (sys.stdout, sys.stderr):
        # The reader may be gone, and the stream may be closed or None.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)
