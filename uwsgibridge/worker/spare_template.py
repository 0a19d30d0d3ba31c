"""Runs in the spare template, which was forked before the supervisor ran: waits, and becomes the first template."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from uwsgibridge.link.messages import MAX_BYTES, MAX_DESCRIPTORS, Blueprint
from uwsgibridge.telemetry.line_stream import log_descriptor
from uwsgibridge.worker import template

_STANDARD_STREAMS: Final = (0, 1, 2)


def become_template(control: socket.socket, lifeline: int) -> int:
    """Wait for the blueprint, and run as ``python -m uwsgibridge.worker.template`` would.

    Args:
        control: this process's end of the link to the supervisor.
        lifeline: a descriptor whose end of file says that the supervisor is gone, or needs no template.

    Returns:
        The exit status of the template, or of the worker that this process has become.
    """
    os.setsid()  # Ctrl-C reaches the supervisor alone, which then stops the workers
    _close_others({*_STANDARD_STREAMS, log_descriptor(), control.fileno(), lifeline})
    _stand_in_for_the_main_module()
    with control:
        blueprint, descriptors = _wait_for_blueprint(control, lifeline)
        os.close(lifeline)
        if blueprint is None:
            return 0
        _renumber(descriptors, blueprint.descriptors)
        for name, value in blueprint.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        return template.run(control, blueprint)


def _close_others(kept: Collection[int]) -> None:
    """Close all descriptors but some, as `subprocess.Popen` does, since others may have handed some over.

    What a library has open of itself stays, too: libffi (3.8.0 of Debian unstable) maps its own file again for each
    hundred callbacks of `ctypes`, which raise MemoryError without its descriptor (tramp_table_alloc in src/tramp.c).
    """
    libraries = _libraries()
    for descriptor in [int(it.name) for it in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept:
            with contextlib.suppress(OSError):  # the listing has closed its own descriptor
                if str(Path(f"/proc/self/fd/{descriptor}").readlink()) not in libraries:
                    os.close(descriptor)


def _libraries() -> set[str]:
    """Give the paths of the files whose code this process has loaded."""
    mappings = [it.split(maxsplit=5) for it in Path("/proc/self/maps").read_text().splitlines()]
    return {it[5] for it in mappings if len(it) == 6 and "x" in it[1] and it[5].startswith("/")}


def _stand_in_for_the_main_module() -> None:
    """Have this process look like one that was started as ``python -m uwsgibridge.worker.template``.

    `multiprocessing` imports the main module again in a process that it spawns. The directory of the command, where
    `pip` has put it, must not be on the import path of an application.
    """
    is_script = sys.modules["__main__"].__spec__ is None
    sys.modules["__main__"] = template
    if is_script and not sys.flags.safe_path:
        del sys.path[0]


def _wait_for_blueprint(
    control: socket.socket, lifeline: int
) -> tuple[Blueprint | None, Sequence[int]]:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    # The supervisor closes the other end of the lifeline only after it has sent the blueprint.
    if control.fileno() not in {descriptor for descriptor, _ in poll.poll()}:
        return None, ()
    data, descriptors, _, _ = socket.recv_fds(control, MAX_BYTES, MAX_DESCRIPTORS)
    return Blueprint.decode(data), descriptors


def _renumber(received: Sequence[int], wanted: Sequence[int]) -> None:
    """Give each descriptor the number that it has in the supervisor."""
    # First all descriptors get other numbers: the number of one may be the one that another needs.
    least = max(wanted) + 1
    aside = [fcntl.fcntl(it, fcntl.F_DUPFD_CLOEXEC, least) for it in received]
    for descriptor in received:
        os.close(descriptor)
    for descriptor, number in zip(aside, wanted, strict=True):
        os.dup2(descriptor, number, inheritable=False)
        os.close(descriptor)
