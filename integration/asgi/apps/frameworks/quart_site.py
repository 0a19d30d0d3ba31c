"""The site in Quart, for asyncio."""

from __future__ import annotations

from quart import Quart

from integration.asgi.apps.frameworks.quart_views import add_views

app = Quart(__name__)
add_views(app, "quart")
