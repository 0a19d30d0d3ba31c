"""The live view as pages of the status application."""

from __future__ import annotations

from uwsgibridge.live_page.pages import PageMaker, live_pages
from uwsgibridge.protocol.request import Request
from uwsgibridge.status.routes import Answer, Handler
from uwsgibridge.supervisor.control_commands import ControlCommands


def live_handlers(commands: ControlCommands) -> dict[str, Handler]:
    """Give the handlers of the live view, by path.

    Args:
        commands: where the figures come from; none of those that change anything is called.
    """
    return {path: _handler_of(make) for path, make in live_pages(commands).items()}


def _handler_of(make: PageMaker) -> Handler:
    async def handle(_request: Request) -> Answer:
        page = await make()
        return Answer(200, page.body, page.content_type, page.headers)

    return handle
