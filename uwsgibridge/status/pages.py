"""The pages for machines: /metrics and /healthz."""

from __future__ import annotations

from uwsgibridge.config.settings import MetricsNames
from uwsgibridge.figures.negotiation import choose_format
from uwsgibridge.figures.text import render
from uwsgibridge.protocol.request import Request
from uwsgibridge.status.routes import Answer, Handler, text_answer
from uwsgibridge.status.sources import Sources, families_named


def machine_pages(sources: Sources, names: MetricsNames) -> dict[str, Handler]:
    """Give the handlers of the pages for machines, by their paths.

    Args:
        sources: of the figures.
        names: which names they have.
    """

    async def metrics(request: Request) -> Answer:
        form = choose_format(request.vars.get("HTTP_ACCEPT", ""))
        text = render(await families_named(sources, names), form)
        return Answer(200, text.encode(), form.value, {"Vary": "Accept"})

    async def health(_request: Request) -> Answer:
        serves, why = sources.glance().health()
        return text_answer(200 if serves else 503, why)

    return {"/metrics": metrics, "/healthz": health}
