"""Clients that leave a site in Django, which tells the end of each request by a signal."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from integration.asgi.apps.leaving import exercises

settings.configure(
    SECRET_KEY="not a secret",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    LOGGING_CONFIG=None,
)
django.setup()


def tell_finish(**_: object) -> None:
    exercises.tell_at(exercises.current_path.get(), "work done")


request_finished.connect(tell_finish)


async def idle(request: HttpRequest, key: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(exercises.idle(request.path), content_type=exercises.EVENTS)


async def busy(request: HttpRequest, key: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(exercises.busy(request.path), content_type=exercises.EVENTS)


async def upload(request: HttpRequest, key: str) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


async def late(request: HttpRequest, key: str) -> HttpResponse:
    await exercises.dawdle(request.path)
    return HttpResponse("at last")


async def release(request: HttpRequest, key: str) -> HttpResponse:
    return HttpResponse(status=204)


urlpatterns = [
    path("idle/<key>", idle),
    path("busy/<key>", busy),
    path("upload/<key>", upload),
    path("late/<key>", late),
    path("release/<key>", release),
]

app = exercises.observed(get_asgi_application(), "django")
