"""Streams, which are answers without a known end, and which of them end when the server stops.

Only an answer without a Content-Length can be a stream: any other ends by itself. Streams of server-sent events end
at once, since their clients connect again by themselves, and reach the next server. Other streams may be nearly
done, and have some time.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from uwsgibridge.protocol.response import Response


class Ending(Enum):
    """Which streams have to end."""

    NONE = auto()
    EVENTS = auto()
    ALL = auto()


class Stream(Protocol):
    """An open stream, which can be told to end."""

    def end_if_meant(self) -> None:
        """Tell the application that its stream ends, if `OpenStreams.ending` covers it."""


class OpenStreams:
    """The streams of one host.

    Attributes:
        ending: which streams have to end; it only grows.
    """

    ending = Ending.NONE

    def __init__(self) -> None:
        self._open: set[Stream] = set()

    def add(self, stream: Stream) -> None:
        """Register a stream, so that `end` tells it."""
        self._open.add(stream)

    def remove(self, stream: Stream) -> None:
        """Forget a stream that is over."""
        self._open.discard(stream)

    def end(self, ending: Ending) -> None:
        """End the open streams that `ending` covers, and those that begin from now on."""
        if self.ending is not Ending.ALL:  # where both are due at once, ALL may come first
            self.ending = ending
        for stream in list(self._open):
            stream.end_if_meant()

    def means(self, response: Response) -> bool:
        """Whether `ending` covers an answer, so that the answer has to end."""
        match self.ending:
            case Ending.NONE:
                return False
            case Ending.EVENTS:
                return response.is_open_ended and response.is_event_stream
            case Ending.ALL:
                return response.is_open_ended and (
                    response.is_head_sent or response.is_event_stream
                )
