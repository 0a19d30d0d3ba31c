"""Notices that a peer has hung up while nobody reads from its connection.

The input of a connection may have unread bytes on purpose (see `uwsgibridge.connection.connection`). So a readable
connection does not tell a hang-up. The kernel reports hang-ups separately: an epoll (on macOS a kqueue) watches for
them alone, and is one descriptor in the event loop.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable

from uwsgibridge.loop.interface import HasFileno, Loop


class HangupWatcher:
    """Calls back once for each watched connection whose peer has closed it.

    Args:
        loop: the event loop; all methods belong to its thread.
    """

    def __init__(self, loop: Loop) -> None:
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._poller = _Poller()
        self._watch = loop.watch(self._poller, self._report)

    def add(self, source: HasFileno, callback: Callable[[], None]) -> None:
        """Watch `source` until its peer hangs up or it is removed; a closed one counts as hung up."""
        descriptor = source.fileno()
        if descriptor < 0:
            callback()
            return
        if descriptor not in self._callbacks:
            self._poller.add(descriptor)
        self._callbacks[descriptor] = callback

    def remove(self, source: HasFileno) -> None:
        """Watch `source` no more, which is about to be closed; do nothing where it is not watched."""
        descriptor = source.fileno()
        if self._callbacks.pop(descriptor, None):
            self._poller.remove(descriptor)

    def close(self) -> None:
        """Close the descriptor."""
        self._watch.close()
        self._poller.close()

    def _report(self) -> None:
        for descriptor in self._poller.ready():
            callback = self._callbacks.pop(descriptor, None)
            if callback is not None:
                self._poller.remove(descriptor)
                callback()


if sys.platform == "linux":

    class _Poller:
        def __init__(self) -> None:
            self._epoll = select.epoll()
            self.fileno = self._epoll.fileno
            self.close = self._epoll.close
            self.remove = self._epoll.unregister

        def add(self, descriptor: int) -> None:
            # EPOLLHUP is always reported; a TCP peer's close gives EPOLLRDHUP.
            self._epoll.register(descriptor, select.EPOLLRDHUP)

        def ready(self) -> list[int]:
            return [descriptor for descriptor, _ in self._epoll.poll(0)]

else:

    class _Poller:
        def __init__(self) -> None:
            self._kqueue = select.kqueue()
            self.fileno = self._kqueue.fileno
            self.close = self._kqueue.close

        def add(self, descriptor: int) -> None:
            self._change(descriptor, select.KQ_EV_ADD | select.KQ_EV_CLEAR)

        def remove(self, descriptor: int) -> None:
            self._change(descriptor, select.KQ_EV_DELETE)

        def ready(self) -> list[int]:
            events = self._kqueue.control(None, 64, 0)
            return [int(event.ident) for event in events if event.flags & select.KQ_EV_EOF]

        def _change(self, descriptor: int, flags: int) -> None:
            self._kqueue.control([select.kevent(descriptor, select.KQ_FILTER_READ, flags)], 0)
