"""Answers that go on without a known end, and which of them are to end when the server stops.

Only an answer without a Content-Length can be one: any other ends by itself. Server-sent events are to
end at once, since their clients come back by themselves and reach who serves from then on. All others
may be something that is nearly done, and have some time.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from uwsgibridge.protocol.response import Response


class Ending(Enum):
    """Which streams are to end."""

    NONE = auto()
    EVENTS = auto()
    ALL = auto()


class Stream(Protocol):
    """An open stream that can be told."""

    def end_if_meant(self) -> None:
        """Tell the application that its stream is to end, if `OpenStreams.ending` covers it."""


class OpenStreams:
    """The streams of one host.

    Attributes:
        ending: which of them are to end; it only grows.
    """

    ending = Ending.NONE

    def __init__(self) -> None:
        self._open: set[Stream] = set()

    def add(self, stream: Stream) -> None:
        """Register a stream, so that `end` can tell it."""
        self._open.add(stream)

    def remove(self, stream: Stream) -> None:
        """Forget one that is over."""
        self._open.discard(stream)

    def end(self, ending: Ending) -> None:
        """End the open streams that `ending` covers, and those that begin from now on."""
        if self.ending is not Ending.ALL:  # where both are due at once, either may come first
            self.ending = ending
        for stream in list(self._open):
            stream.end_if_meant()

    def means(self, response: Response) -> bool:
        """Whether `ending` covers an answer, so that it is to end."""
        match self.ending:
            case Ending.NONE:
                return False
            case Ending.EVENTS:
                return response.is_open_ended and response.is_event_stream
            case Ending.ALL:
                return response.is_open_ended and (response.head_sent or response.is_event_stream)
