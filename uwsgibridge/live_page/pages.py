"""What the live view answers at each path.

The page is three files of its own, so that its content security policy allows nothing else: no script in the text, no
other host. Its script writes what clients have sent, such as paths, as text alone.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from importlib import resources
from typing import Any, Final, Protocol, TypeAlias

from uwsgibridge.quick_dataclass import dataclass

# How many requests the page shows at the most.
_MOST_REQUESTS: Final = 200

# Of these, a browser takes nothing from elsewhere, runs no script of the text, and shows the page in no frame.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_FILES: Final = {
    "/": ("live.html", "text/html; charset=utf-8"),
    "/live.css": ("live.css", "text/css; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
}


@dataclass(frozen=True, slots=True)
class Page:
    """A whole answer.

    Attributes:
        body: the bytes.
        content_type: of the body.
        headers: further ones. That nothing is to be stored is for the caller to say.
    """

    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=lambda: dict(_HEADERS))


class Looks(Protocol):
    """The commands of a supervisor that only look; `uwsgibridge.control.commands` has them."""

    async def status(self) -> Mapping[str, object]:
        """Give the state of the supervisor and its workers."""

    async def requests(
        self, *, limit: int, older_seconds: float, stacks: bool
    ) -> Mapping[str, object]:
        """Give the requests in flight of all workers, the oldest first."""


PageMaker: TypeAlias = Callable[[], Awaitable[Page]]


def live_pages(looks: Looks) -> dict[str, PageMaker]:
    """Give what makes each page, by its path: ``/``, its files, ``/status.json`` and ``/requests.json``.

    Args:
        looks: where the figures come from.
    """

    async def status() -> Page:
        return _json_page(await looks.status())

    async def requests() -> Page:
        # No stacks: they show code, and who may see the figures may not see that.
        return _json_page(
            await looks.requests(limit=_MOST_REQUESTS, older_seconds=0.0, stacks=False)
        )

    pages: dict[str, PageMaker] = {path: _file_maker(path) for path in _FILES}
    return {**pages, "/status.json": status, "/requests.json": requests}


def _file_maker(path: str) -> PageMaker:
    name, content_type = _FILES[path]

    async def make() -> Page:
        # Read each time: nobody looks often, and a supervisor has no use for it otherwise.
        body = resources.files("uwsgibridge.live_page").joinpath(name).read_bytes()
        return Page(body, content_type)

    return make


def _json_page(answer: Mapping[str, Any]) -> Page:
    return Page(json.dumps(answer, allow_nan=False).encode(), "application/json")
