"""The pages of the status application: which handler answers which path, and with which methods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import Final, TypeAlias

from uwsgibridge.protocol.request import Request
from uwsgibridge.quick_dataclass import dataclass

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the status application.

    Attributes:
        status: the HTTP status.
        body: of the answer to GET; that to HEAD has its length alone.
        content_type: of the body.
        headers: further headers; there is always ``Cache-Control: no-store``, since each answer is of one moment.
    """

    status: int
    body: bytes
    content_type: str = _TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


# Answers a GET or a HEAD; whatever it raises becomes 500.
Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


class Routes:
    """A table of paths and their handlers.

    A path is also found below a prefix, whichever that is: a location of Nginx such as ``/-/status/`` stays in the
    path, unless its configuration has a SCRIPT_NAME for it. So ``/metrics`` answers ``/-/status/metrics`` as well.

    Args:
        handlers: by path, such as ``/metrics``; a path that ends in a slash is that of a start page.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)

    async def answer(self, request: Request) -> Answer:
        """Answer one request."""
        handler = self._find(request.path)
        if handler is None:
            there_are = ", ".join(sorted(self._handlers))
            return text_answer(404, f"There is no such page here; there are {there_are}.")
        if request.method not in {"GET", "HEAD"}:
            return text_answer(405, "Pages are asked for by GET or HEAD.", {"Allow": "GET, HEAD"})
        return await handler(request)

    def _find(self, path: str) -> Handler | None:
        # The last part of the path alone counts, with the slash before it.
        return self._handlers.get(path[path.rfind("/") :])


def text_answer(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Make an answer of one sentence."""
    return Answer(status, sentence.encode() + b"\n", headers=headers or {})
