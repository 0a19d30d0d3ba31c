"""The site in Django, for asyncio: settings, views and application in one file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from integration.asgi.apps.frameworks import exercises

NAME = "django"

settings.configure(
    SECRET_KEY="not a secret",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    DATA_UPLOAD_MAX_MEMORY_SIZE=32 * 1024 * 1024,
    LOGGING_CONFIG=None,
)
django.setup()


async def form(request: HttpRequest) -> HttpResponse:
    return JsonResponse(dict(request.POST.lists()))


async def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    content = b"".join(file.chunks())
    return JsonResponse({"name": file.name, **exercises.about(content)})


async def raw(request: HttpRequest) -> HttpResponse:
    pieces = []
    while piece := request.read(65_536):
        pieces.append(piece)
    return JsonResponse({"pieces": len(pieces), **exercises.about(b"".join(pieces))})


async def stream(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(exercises.numbered_pieces())


async def events(request: HttpRequest, key: str) -> HttpResponse:
    return StreamingHttpResponse(exercises.two_events(key), content_type="text/event-stream")


async def endless(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(exercises.endless(NAME), content_type=exercises.BINARY)


async def file(request: HttpRequest) -> HttpResponse:
    async def content() -> AsyncIterator[bytes]:
        with open(__file__, "rb") as opened:  # noqa: ASYNC230, PTH123 - a short file
            yield opened.read()

    return StreamingHttpResponse(content())


def plain_file(request: HttpRequest) -> FileResponse:
    return FileResponse(open(__file__, "rb"))  # noqa: PTH123 - Django closes it


async def signal(request: HttpRequest, key: str) -> HttpResponse:
    exercises.set_signal(NAME, key)
    return HttpResponse(status=204)


async def libraries(request: HttpRequest) -> HttpResponse:
    return JsonResponse(exercises.libraries())


async def where(request: HttpRequest) -> HttpResponse:
    root = request.META["SCRIPT_NAME"]
    url = request.build_absolute_uri()
    return JsonResponse({"url": url, "client": request.META["REMOTE_ADDR"], "root": root})


async def fail(request: HttpRequest) -> Any:
    raise ValueError("of the site")


urlpatterns = [
    path("form", form),
    path("upload", upload),
    path("raw", raw),
    path("stream", stream),
    path("events/<key>", events),
    path("endless", endless),
    path("file", file),
    path("signal/<key>", signal),
    path("libraries", libraries),
    path("where", where),
    path("fail", fail),
]

app = get_asgi_application()
