"""Streams of Django, which listens for the disconnect by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from integration.asgi.apps.table import tell

settings.configure(
    SECRET_KEY="not a secret",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    LOGGING_CONFIG=None,
)
django.setup()


async def _events(told_path: str) -> AsyncIterator[bytes]:
    try:
        yield b"data: open\n\n"
        await anyio.sleep_forever()
    finally:
        tell({"path": told_path}, "closed")


async def events(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_events(request.path), content_type="text/event-stream")


urlpatterns = [path("events", events)]

app = get_asgi_application()
