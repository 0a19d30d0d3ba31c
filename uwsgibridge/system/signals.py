"""The signals that processes of a server handle."""

from __future__ import annotations

import signal
from typing import Final


def empty_handler(_number: int, _frame: object) -> None:
    """Handle a signal by doing nothing; unlike SIG_IGN, programs that the application starts do not inherit this."""


SERVER_SIGNALS: Final = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTTIN,
        signal.SIGTTOU,
    }
)
