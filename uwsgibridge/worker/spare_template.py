"""A process that was forked before the supervisor ran, and becomes the first template when it is told."""

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

from uwsgibridge.link.messages import MAX_BYTES, Blueprint
from uwsgibridge.telemetry.line_stream import log_descriptor
from uwsgibridge.worker import template

_STANDARD_STREAMS: Final = (0, 1, 2)

# As many as one message takes; see `uwsgibridge.supervisor.spare_template`.
_MAX_DESCRIPTORS: Final = 253


def become_template(control: socket.socket, held: int) -> int:
    """Wait for the blueprint, and run as the template that ``python -m uwsgibridge.worker.template`` is.

    Args:
        control: this process's end of the link to the supervisor.
        held: a descriptor whose end of file says that the supervisor is gone, or needs no template.

    Returns:
        The exit status of the template, or of the worker that this process has become.
    """
    os.setsid()  # Ctrl-C is for the supervisor, which tells the workers
    _close_others({*_STANDARD_STREAMS, log_descriptor(), control.fileno(), held})
    _stand_in_for_the_main_module()
    with control:
        blueprint, descriptors = _wait_for_blueprint(control, held)
        os.close(held)
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
    """Close all descriptors but some, as `subprocess.Popen` does: what others have handed to the supervisor."""
    for descriptor in [int(it.name) for it in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(descriptor)


def _stand_in_for_the_main_module() -> None:
    """Have this process look like one that was started as ``python -m uwsgibridge.worker.template``.

    `multiprocessing` imports the main module once more in a process that it spawns. A script's folder is no place for
    an application's imports: `pip` has put the command there.
    """
    is_script = sys.modules["__main__"].__spec__ is None
    sys.modules["__main__"] = template
    if is_script and not sys.flags.safe_path:
        del sys.path[0]


def _wait_for_blueprint(
    control: socket.socket, held: int
) -> tuple[Blueprint | None, Sequence[int]]:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(held, select.POLLIN)
    # The supervisor closes the other end of `held` only after it has sent the blueprint.
    if control.fileno() not in {descriptor for descriptor, _ in poll.poll()}:
        return None, ()
    data, descriptors, _, _ = socket.recv_fds(control, MAX_BYTES, _MAX_DESCRIPTORS)
    return Blueprint.decode(data), descriptors


def _renumber(received: Sequence[int], wanted: Sequence[int]) -> None:
    """Give each descriptor the number that it has in the supervisor."""
    # Aside first: the number of one may be the one that another has to get.
    least = max(wanted) + 1
    aside = [fcntl.fcntl(it, fcntl.F_DUPFD_CLOEXEC, least) for it in received]
    for descriptor in received:
        os.close(descriptor)
    for descriptor, number in zip(aside, wanted, strict=True):
        os.dup2(descriptor, number, inheritable=False)
        os.close(descriptor)
