"""What holds for all tests, wherever they are run."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    # A shell without job control starts what it puts into the background with both ignored (POSIX, 2.11),
    # the programs that tests start inherit that, and a shell among them can't even trap them.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
