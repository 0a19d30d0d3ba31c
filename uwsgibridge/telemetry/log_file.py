"""Where standard error goes: to a file, and to a new one after logrotate has moved the old away.

The descriptor is redirected, not Python's stream: log events, tracebacks, `faulthandler`'s dumps and
what the application or a library in C prints all land in the file, in the order they were written,
and processes that are started later inherit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_STANDARD_ERROR: Final = 2

# The group may read, for what collects logs; the umask may take that away.
_MODE: Final = 0o640


class LogFileError(Exception):
    """The log file can't be opened; the message names ``--log-file``."""


def open_log_file(path: Path) -> None:
    """Send all that this process writes to standard error to the end of a file.

    Call it before `make_logger`, so that ``auto`` sees the file and not the terminal. Call it again
    when the file was moved away (SIGUSR1), in each process: a descriptor can't be changed from
    outside. No log event is lost or cut in two: other threads may write meanwhile, and what is still in
    the stream's buffer goes to the new file. Safe in a signal handler.

    Args:
        path: absolute, for the application may change the directory; made where it is missing.

    Raises:
        LogFileError: standard error stays what it was.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO that nobody reads would wait for a reader.
        descriptor = os.open(
            path,
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK,
            _MODE,
        )
    except FileNotFoundError:
        raise LogFileError(
            f"--log-file {path}: there is no directory {path.resolve().parent}"
        ) from None
    except OSError as error:
        raise LogFileError(f"--log-file {path} can't be opened: {error.strerror}") from None
    os.set_blocking(descriptor, True)
    os.dup2(descriptor, _STANDARD_ERROR)
    os.close(descriptor)
