"""Clients that leave a site in Quart, for asyncio."""

from __future__ import annotations

from quart import Quart

from integration.asgi.apps.leaving.exercises import observed
from integration.asgi.apps.leaving.quart_views import add_views

site = Quart(__name__)
add_views(site)
app = observed(site, "quart")
