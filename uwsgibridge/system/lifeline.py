"""Ends a process when its starter ends, however that happens.

The kernel does it: the starter holds the only writing end of a pipe, and the process has inherited the reading
end. When the writing end is closed, which SIGKILL causes too, the reading end becomes
readable, and ``O_ASYNC`` makes a signal of that (fcntl(2), `F_SETOWN` and `F_SETSIG`; pipe_release() in
fs/pipe.c). The process itself does nothing. So it gets the signal even while it imports an application, and a
program that it executes gets the signal, too.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys


class Lifeline:
    """A pipe whose writing end is closed when this process ends.

    Owns both ends until they are handed on and closed.

    Attributes:
        inherited: the descriptor that the other process has to inherit.
    """

    def __init__(self) -> None:
        self.inherited, self._held = os.pipe()

    def hold(
        self, pid: int, *, number: signal.Signals = signal.SIGTERM, whole_group: bool = False
    ) -> None:
        """Have a signal sent to a process that has inherited the descriptor, when this process ends.

        The kernel remembers the process itself: its number may later be that of another process. On other systems
        than Linux, nothing is sent.

        Args:
            pid: of the process.
            number: the signal.
            whole_group: whether all processes of the group that it leads get the signal, which are there then.
        """
        reader = self.inherited
        if sys.platform == "linux":
            fcntl.fcntl(reader, fcntl.F_SETOWN, -pid if whole_group else pid)
            fcntl.fcntl(reader, fcntl.F_SETSIG, number)
            fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC)
        # The other process now has the only descriptor of the reading end, which has the settings of the signal.
        os.close(reader)

    def cut(self) -> None:
        """Close the writing end after the process has ended; do nothing where it is closed.

        Called earlier, this ends the process.
        """
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)

    def detach(self) -> int:
        """Hand the writing end over to the caller, who cuts the lifeline by closing it.

        Returns:
            Its descriptor.
        """
        held, self._held = self._held, -1
        return held

    def close(self) -> None:
        """Close both ends, where no process was started."""
        os.close(self.inherited)
        os.close(self._held)
