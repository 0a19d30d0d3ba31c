"""Clients that leave a site in Quart-Trio, for trio."""

from __future__ import annotations

from quart_trio import QuartTrio

from integration.asgi.apps.leaving.exercises import observed
from integration.asgi.apps.leaving.quart_views import add_views

site = QuartTrio(__name__)
add_views(site)
app = observed(site, "quart-trio")
