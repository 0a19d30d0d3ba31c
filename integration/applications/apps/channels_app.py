"""Django with Channels and Django Ninja: HTTP views, an API, a long poll and a WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

settings.configure(
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from channels.generic.http import AsyncHttpConsumer  # noqa: E402 - they need the settings
from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path, re_path  # noqa: E402
from ninja import NinjaAPI, Schema  # noqa: E402

POLL_SECONDS = 5

api = NinjaAPI()


class Sum(Schema):
    a: int
    b: int = 0


@api.post("/add")
def add(request: HttpRequest, numbers: Sum) -> dict[str, int]:
    return {"sum": numbers.a + numbers.b}


@api.get("/async-add")
async def async_add(request: HttpRequest, a: int, b: int) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"sum": a + b}


async def tell(request: HttpRequest, text: str) -> HttpResponse:
    """Let the room have a message."""
    await get_channel_layer().group_send("room", {"type": "told", "text": text})
    return HttpResponse("told")


async def events(request: HttpRequest) -> StreamingHttpResponse:
    """Send events for ever."""

    async def endless() -> Any:
        while True:
            yield "data: event\n\n"
            await asyncio.sleep(0.05)

    return StreamingHttpResponse(endless(), content_type="text/event-stream")


# Set when a member of the room that waits may go on, and when it has ended.
may_go_on, has_ended = asyncio.Event(), asyncio.Event()


async def go_on(request: HttpRequest) -> HttpResponse:
    """Let a member of the room go on that waits, and wait for its end."""
    may_go_on.set()
    await asyncio.wait_for(has_ended.wait(), POLL_SECONDS)
    return HttpResponse("ended")


urlpatterns = [
    path("api/", api.urls),
    path("go-on", go_on),
    path("tell/<text>", tell),
    path("events", events),
]


class LongPoll(AsyncHttpConsumer):
    """Answers with the room's next message, or with nothing after a time that a stop has, too."""

    async def http_request(self, message: dict[str, Any]) -> None:
        # AsyncHttpConsumer's own ends the request as soon as `handle` has returned.
        if not message.get("more_body"):
            await self.channel_layer.group_add("room", self.channel_name)
            self.bound = asyncio.create_task(self.give_up())

    async def give_up(self) -> None:
        await asyncio.sleep(POLL_SECONDS)
        await self.channel_layer.send(self.channel_name, {"type": "told", "text": ""})

    async def told(self, message: dict[str, str]) -> None:
        await self.send_response(200, message["text"].encode())
        # Ends the request, as Channels' own does.
        await self.http_disconnect({"type": "http.disconnect"})

    async def disconnect(self) -> None:
        self.bound.cancel()
        await self.channel_layer.group_discard("room", self.channel_name)


class Room(AsyncJsonWebsocketConsumer):
    """Hands on what its members say, and answers them."""

    groups = ("room",)

    waits = False

    async def receive_json(self, content: Any) -> None:
        if content == "wait":
            self.waits = True
            await may_go_on.wait()
        await self.send_json({"you said": content})

    async def disconnect(self, code: int) -> None:
        if self.waits:
            has_ended.set()

    async def told(self, message: dict[str, str]) -> None:
        await self.send_json({"told": message["text"]})


app = ProtocolTypeRouter(
    {
        "http": URLRouter([path("poll", LongPoll.as_asgi()), re_path("", get_asgi_application())]),
        "websocket": URLRouter([path("room", Room.as_asgi())]),
    }
)
