"""Sets the title of a process, which ps shows."""

from __future__ import annotations

import sys


def set_title(name: str, role: str) -> None:
    """Show the process as ``name: role`` in ps and top.

    The package finds the memory of the title by means of the original environment, once. Forked children
    inherit the place. So a process that forks sets a title before it runs code of others, which may change the
    environment. Afterwards ``/proc/PID/environ`` is blank; ``os.environ`` does not change.

    Args:
        name: of the site or service; an empty name changes nothing.
        role: of the process, such as ``worker``.
    """
    # On macOS, a forked child that calls the package dies of SIGSEGV (dvarrazzo/py-setproctitle#113, #165).
    if not name or sys.platform == "darwin":
        return
    from setproctitle import setproctitle, setthreadtitle

    # Characters that can't be printed are replaced: surrogates would raise, and escapes would reach terminals.
    title = "".join(it if it.isprintable() else "?" for it in f"{name}: {role}")
    setproctitle(title)
    # The kernel's name, which top shows, has no spaces: from Python 3.12 on, a fork in a process with a space there
    # and a niceness warns of threads that there are not (warn_about_fork_with_threads in Modules/posixmodule.c).
    setthreadtitle(title.replace(": ", ":").replace(" ", "_"))
