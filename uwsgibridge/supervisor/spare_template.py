"""The spare template, which is forked before the supervisor runs, so that both import shared modules once.

The spare template waits until the supervisor has its sockets, and then becomes the first template. Later templates are
started anew by `uwsgibridge.supervisor.template_process`: a reload has to see the packages that are installed then.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from uwsgibridge.link.messages import MAX_BYTES, MAX_DESCRIPTORS, Blueprint
from uwsgibridge.system.forking import fork_process
from uwsgibridge.system.interpreter import end_interpreter
from uwsgibridge.system.signals import SERVER_SIGNALS


class SpareTemplate:
    """The supervisor's side of a spare template; `fork` makes it.

    Attributes:
        pid: of the spare template, a child of this process.
    """

    def __init__(
        self,
        pid: int,
        control: socket.socket,
        lifeline_write_end: int,
        environment: Mapping[str, str],
    ) -> None:
        self.pid = pid
        self._control: socket.socket | None = control
        self._lifeline_write_end = lifeline_write_end
        self._environment = environment

    @staticmethod
    def fork(become_template: Callable[[socket.socket, int], int]) -> SpareTemplate | None:
        """Fork a spare template; the child ends.

        Args:
            become_template: run by the child with its end of the link, and with a descriptor whose end of file
                says that the child is not needed. It returns the exit status.

        Returns:
            The spare template; None where no process can be made. None on other systems than Linux, whose
            libraries do not allow such a fork.
        """
        if sys.platform != "linux":
            return None
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        # The link itself can't say that this process is gone: a datagram socket has no end of file.
        lifeline, lifeline_write_end = os.pipe()
        # The garbage collector does not write to frozen objects, so their memory stays shared.
        gc.freeze()
        # Signals wait until the template has its handlers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
        try:
            pid = fork_process()
        except OSError:  # the first template is then started as later ones are
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(lifeline)
            os.close(lifeline_write_end)
            control.close()
            theirs.close()
            return None
        if pid == 0:
            # Both ends get, in the child, the numbers that the parent's ends have. The parent keeps those numbers, so
            # no listening socket gets one of them, and the child can give each socket the number that it has in the
            # parent.
            own = control.detach()
            os.dup2(theirs.fileno(), own, inheritable=False)
            os.dup2(lifeline, lifeline_write_end, inheritable=False)
            theirs.close()
            os.close(lifeline)
            end_interpreter(become_template(socket.socket(fileno=own), lifeline_write_end))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        os.close(lifeline)
        return SpareTemplate(pid, control, lifeline_write_end, dict(os.environ))

    def start(self, blueprint: Blueprint, descriptors: Sequence[int]) -> socket.socket | None:
        """Have the spare template run as a template.

        Args:
            blueprint: tells it what it runs.
            descriptors: descriptors that it gets, under the same numbers.

        Returns:
            This process's end of the link; None where the spare template is in use already, or has ended, or
            can't get so many descriptors, or so many variables.
        """
        if self._control is None:
            return None
        if len(descriptors) > MAX_DESCRIPTORS:
            self.end()
            return None
        changes = {
            name: os.environ.get(name)
            for name in {*os.environ, *self._environment}
            if os.environ.get(name) != self._environment.get(name)
        }
        blueprint = replace(blueprint, descriptors=tuple(descriptors), environment=changes)
        message = blueprint.encode()
        if len(message) > MAX_BYTES:  # too much of the environment has changed
            self.end()
            return None
        try:
            socket.send_fds(self._control, [message], descriptors)
        except OSError:  # the spare template was killed
            self.end()
            return None
        control, self._control = self._control, None
        os.close(self._lifeline_write_end)
        return control

    def end(self) -> None:
        """End the spare template, if it was not started."""
        if self._control is None:
            return
        self._control.close()
        self._control = None
        os.close(self._lifeline_write_end)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
