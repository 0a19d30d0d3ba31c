"""The admin, and views for what else passes through a server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from django.contrib import admin
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.middleware.csrf import get_token
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt

from integration.wsgi.apps.sendfile_count import sendfile_bytes

FILES = Path(os.environ["EXERCISE_DIRECTORY"], "flask")


def where(request: HttpRequest, rest: str) -> JsonResponse:
    return JsonResponse(
        {
            "here": reverse("where", args=[rest]),
            "outside": request.build_absolute_uri(),
            "script_root": request.META["SCRIPT_NAME"],
            "path": request.path_info,
            "url": request.build_absolute_uri(),
        }
    )


def elsewhere(request: HttpRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("where", args=["redirected"]))


def token(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_token(request), content_type="text/plain")


def upload(request: HttpRequest) -> JsonResponse:
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return JsonResponse(
        {
            "title": request.POST["title"],
            "name": file.name,
            "bytes": file.size,
            "sha256": digest.hexdigest(),
            "spooled": type(file).__name__,
        }
    )


@csrf_exempt
def body(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)), content_type="text/plain")


def stream(request: HttpRequest, count: int) -> StreamingHttpResponse:
    def generate() -> Iterator[bytes]:
        for number in range(count):
            yield b"%d\n" % number

    return StreamingHttpResponse(generate(), content_type="text/plain")


def file(request: HttpRequest, name: str) -> FileResponse:
    return FileResponse((FILES / name).open("rb"), as_attachment="download" in request.GET)


def count(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(sendfile_bytes()), content_type="text/plain")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("where/<path:rest>", where, name="where"),
    path("elsewhere", elsewhere),
    path("token", token),
    path("upload", upload),
    path("body", body),
    path("stream/<int:count>", stream),
    path("file/<str:name>", file),
    path("sendfile-bytes", count),
]
