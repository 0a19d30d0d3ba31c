"""The site in Quart-Trio, for trio."""

from __future__ import annotations

from quart_trio import QuartTrio

from integration.asgi.apps.frameworks.quart_views import add_views

app = QuartTrio(__name__)
add_views(app, "quart-trio")
