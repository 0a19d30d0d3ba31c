"""What a process is called in the output of ps."""

from __future__ import annotations

import sys


def set_title(name: str, role: str) -> None:
    """Show the process as ``name: role`` in ps and top.

    The memory for it is found by way of the environment as the process got it, once, and forked
    children inherit what was found: who forks sets a title before it runs code of others, which may
    change the environment. ``/proc/PID/environ`` is blank afterwards; ``os.environ`` stays.

    Args:
        name: of the site or service; with an empty one nothing is done.
        role: such as ``worker``.
    """
    # macOS: the package ends a forked child there with SIGSEGV (dvarrazzo/py-setproctitle#113, #165).
    if not name or sys.platform == "darwin":
        return
    from setproctitle import setproctitle

    # A title is never worth an exception, as for a surrogate, nor an escape sequence on a terminal.
    setproctitle("".join(it if it.isprintable() else "?" for it in f"{name}: {role}"))
