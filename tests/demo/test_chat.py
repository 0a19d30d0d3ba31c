"""The demo's chat room, on each event loop: who gets what, and how a WebSocket that breaks a rule ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import anyio
import pytest
import trio
import trio.testing
import uvloop

from uwsgibridge.demo import chat, page
from uwsgibridge.demo.chat import Room
from uwsgibridge.demo.web_files import WEB_FILES

PATIENCE_SECONDS = 10.0
OWN_PAGE = {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}


def on_each_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on each loop; on trio with a clock that jumps over every wait."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
    def run(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async def in_time() -> None:
            with anyio.fail_after(PATIENCE_SECONDS):
                await test()

        if loop == "trio":
            trio.run(in_time, clock=trio.testing.MockClock(autojump_threshold=0))
            return
        monkeypatch.setattr(chat, "SPEAK_INTERVAL_SECONDS", 0)
        (uvloop.run if loop == "uvloop" else asyncio.run)(in_time())

    run.__doc__ = test.__doc__
    return run


class Browser:
    """The other side of one WebSocket of ASGI.

    Attributes:
        may_write: while it is not set, it reads nothing of what is sent to it.
    """

    def __init__(self) -> None:
        self.may_write = anyio.Event()
        self.may_write.set()
        self._is_gone = False
        self._outgoing: deque[dict[str, Any]] = deque([{"type": "websocket.connect"}])
        self._went_out = anyio.Event()
        self._incoming: deque[dict[str, Any]] = deque()
        self._came_in = anyio.Event()

    # What the test does.

    async def next(self) -> dict[str, Any]:
        """Wait for the next that the room sends: the JSON of a text, or the ASGI message itself."""
        while not self._incoming:
            self._came_in = anyio.Event()
            await self._came_in.wait()
        message = self._incoming.popleft()
        if message["type"] != "websocket.send":
            return message
        decoded: dict[str, Any] = json.loads(message["text"])
        return decoded

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Wait for the next one of a type, with these fields."""
        while True:
            message = await self.next()
            if message["type"] == kind and message.items() >= fields.items():
                return message

    def tell(self, message: object) -> None:
        """Send JSON to the room."""
        self.put({"type": "websocket.receive", "text": json.dumps(message), "bytes": None})

    def say(self, text: str) -> None:
        self.tell({"type": "say", "text": text})

    async def join(self, name: str = "") -> str:
        """Take a name; the one that the room gave."""
        self.tell({"type": "name", "name": name})
        given: str = (await self.until("named"))["name"]
        await self.until("joined", name=given)
        return given

    def put(self, message: dict[str, Any]) -> None:
        self._outgoing.append(message)
        self._went_out.set()

    def leave(self) -> None:
        self._is_gone = True
        self.may_write.set()
        self.put({"type": "websocket.disconnect", "code": 1001, "reason": ""})

    # What the application calls.

    async def receive(self) -> dict[str, Any]:
        while not self._outgoing:
            self._went_out = anyio.Event()
            await self._went_out.wait()
        return self._outgoing.popleft()

    async def send(self, message: Any) -> None:
        await self.may_write.wait()
        if self._is_gone:
            raise BrokenPipeError
        self._incoming.append(message)
        self._came_in.set()


def scope_of(headers: Mapping[str, str] = OWN_PAGE, **values: Any) -> dict[str, Any]:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "websocket", "path": "/chat", "headers": encoded, **values}


@asynccontextmanager
async def opened(room: Room) -> AsyncIterator[Browser]:
    """Open a browser's WebSocket; at the end the browser leaves, and the room must be done with it."""
    browser = Browser()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(room.host, scope_of(), browser.receive, browser.send)
        assert await browser.next() == {"type": "websocket.accept"}
        yield browser
        browser.leave()


async def close_code_after(room: Room, message: object, *, joined: bool = True) -> tuple[int, str]:
    """Send one message; the code and the reason that the room closes with."""
    async with opened(room) as browser:
        if joined:
            await browser.join("Ada")
        browser.tell(message)
        closed = await browser.until("websocket.close")
        return closed["code"], closed["reason"]


@on_each_loop
async def test_everybody_gets_what_is_said() -> None:
    room = Room()
    async with opened(room) as ada, opened(room) as grace:
        await ada.join("Ada")
        await grace.join("Grace")
        ada.say("Hello, <b>Grace</b> ü 🎉")

        for browser in (ada, grace):
            said = await browser.until("said")
            assert datetime.fromisoformat(said.pop("time")).utcoffset() is not None
            assert said == {"type": "said", "name": "Ada", "text": "Hello, <b>Grace</b> ü 🎉"}


@on_each_loop
async def test_coming_and_going_is_told_with_how_many_are_there() -> None:
    room = Room()
    async with opened(room) as ada:
        assert await ada.next() == {"type": "presence", "present": 1}
        ada.tell({"type": "name", "name": "Ada"})
        assert await ada.next() == {"type": "named", "name": "Ada"}
        assert await ada.next() == {"type": "joined", "name": "Ada", "present": 1}

        async with opened(room) as grace:
            assert await ada.next() == {"type": "presence", "present": 2}
            await grace.join("Grace")
            assert await ada.next() == {"type": "joined", "name": "Grace", "present": 2}
        assert await ada.next() == {"type": "left", "name": "Grace", "present": 1}

        async with opened(room):
            assert await ada.next() == {"type": "presence", "present": 2}
        assert await ada.next() == {"type": "presence", "present": 1}


@on_each_loop
async def test_a_name_can_be_changed() -> None:
    room = Room()
    async with opened(room) as ada, opened(room) as grace:
        await grace.join("Grace")
        await ada.join("Ada")
        ada.tell({"type": "name", "name": "Ada"})  # the same: nothing to tell the others
        ada.tell({"type": "name", "name": "Countess"})

        await grace.until("joined", name="Ada")
        assert await grace.next() == {"type": "renamed", "before": "Ada", "name": "Countess"}


@on_each_loop
async def test_names_are_visible_and_nobody_elses() -> None:
    room = Room()
    async with opened(room) as one, opened(room) as two, opened(room) as three:
        assert await one.join() == "Guest 1"
        assert await two.join("  Ada\t\u202eLovelace\n ") == "Ada Lovelace"
        assert await three.join("aDA lOVELACE") == "aDA lOVELACE (2)"
        three.tell({"type": "name", "name": "\u200b \x00"})
        assert (await three.until("named"))["name"] == "Guest 2"


@on_each_loop
async def test_a_number_makes_no_name_too_long() -> None:
    room = Room()
    async with opened(room) as one, opened(room) as two:
        longest = "x" * chat.MAX_NAME_CHARACTERS
        assert await one.join(longest) == longest
        given = await two.join(longest)

        assert given == "x" * (chat.MAX_NAME_CHARACTERS - 4) + " (2)"


@on_each_loop
async def test_nothing_is_kept() -> None:
    room = Room()
    async with opened(room) as ada:
        await ada.join("Ada")
        ada.say("before anybody came")
        await ada.until("said")

        async with opened(room) as late:
            assert await late.next() == {"type": "presence", "present": 2}
            ada.say("after that")
            assert (await late.next())["text"] == "after that"


@on_each_loop
async def test_a_text_is_one_line_and_an_empty_one_is_none() -> None:
    room = Room()
    async with opened(room) as ada:
        await ada.join("Ada")
        ada.say(" \n\t ")
        ada.say(" two\n  lines ")

        assert (await ada.next())["text"] == "two lines"


@on_each_loop
async def test_what_is_at_its_limit_passes() -> None:
    room = Room()
    longest = "🎉" * chat.MAX_TEXT_CHARACTERS
    async with opened(room) as ada:
        await ada.join("Ada")
        ada.say(longest)

        assert (await ada.until("said"))["text"] == longest


@on_each_loop
async def test_what_is_too_long_ends_it() -> None:
    room = Room()
    for message in (
        {"type": "say", "text": "x" * (chat.MAX_TEXT_CHARACTERS + 1)},
        {"type": "name", "name": "x" * (chat.MAX_NAME_CHARACTERS + 1)},
        {"type": "say", "text": "", "more": "x" * 10_000},
    ):
        code, reason = await close_code_after(room, message)

        assert code == 1009
        assert "at most" in reason


@on_each_loop
async def test_what_the_page_would_not_send_ends_it() -> None:
    room = Room()
    for message in (
        {"type": "shout", "text": "x"},
        {"type": "say"},
        {"type": "say", "text": 5},
        {"type": "say", "text": None},
        {"type": "name", "name": ["Ada"]},
        ["say", "x"],
        "say",
        None,
    ):
        assert (await close_code_after(room, message))[0] == 1008


@on_each_loop
async def test_what_is_no_json_or_no_text_ends_it() -> None:
    room = Room()
    nested = "[" * 5_000
    for message in (
        {"text": "hello", "bytes": None},
        {"text": "", "bytes": None},
        {"text": nested, "bytes": None},
        {"text": "9" * 5_000, "bytes": None},
        {"text": None, "bytes": b"{}"},
        {"bytes": b"{}"},
    ):
        async with opened(room) as browser:
            browser.put({"type": "websocket.receive", **message})
            assert (await browser.until("websocket.close"))["code"] == 1008


@on_each_loop
async def test_who_has_no_name_may_listen_but_not_speak() -> None:
    code, reason = await close_code_after(
        Room(), {"type": "say", "text": "anonymous"}, joined=False
    )

    assert (code, reason) == (1008, "a name comes before the first text")


@on_each_loop
async def test_others_see_that_a_rule_breaker_left() -> None:
    room = Room()
    async with opened(room) as ada:
        await ada.join("Ada")
        async with opened(room) as grace:
            await grace.join("Grace")
            grace.tell("nonsense")
            assert await ada.until("left") == {"type": "left", "name": "Grace", "present": 1}


@on_each_loop
async def test_a_full_room_says_so_and_takes_the_next_after_one_has_left() -> None:
    room = Room(max_members=2)
    async with opened(room) as ada:
        async with opened(room):
            turned_away = Browser()
            await room.host(scope_of(), turned_away.receive, turned_away.send)

            assert await turned_away.next() == {"type": "websocket.accept"}
            assert await turned_away.next() == {
                "type": "websocket.close",
                "code": 1013,
                "reason": "all 2 places are taken",
            }
        await ada.until("presence", present=1)
        async with opened(room) as next_one:
            assert await next_one.join() == "Guest 1"


@on_each_loop
async def test_a_reader_that_stalls_holds_up_nobody_and_has_to_go() -> None:
    room = Room(max_waiting=5)
    async with opened(room) as ada, opened(room) as slow:
        await slow.join("Slow")
        await ada.join("Ada")
        await slow.until("joined", name="Ada")
        slow.may_write = anyio.Event()

        # The first is being written, five wait for that, and the seventh is one too many.
        for number in range(7):
            ada.say(str(number))
            assert (await ada.next())["text"] == str(number)
        assert await ada.next() == {"type": "left", "name": "Slow", "present": 1}

        slow.say("heard by nobody")
        slow.may_write.set()
        assert (await slow.next())["text"] == "0"
        assert await slow.next() == {
            "type": "websocket.close",
            "code": 1013,
            "reason": "too slow for the others",
        }
        ada.say("still here")
        assert (await ada.next())["text"] == "still here"


@on_each_loop
async def test_a_client_that_has_gone_ends_quietly() -> None:
    room = Room()
    async with opened(room) as ada:
        await ada.join("Ada")
        async with opened(room) as grace:
            await grace.join("Grace")
            grace.leave()  # from here on send() raises
            ada.say("into the void")
            await ada.until("left", name="Grace")
    # Before it was accepted, too.
    gone = Browser()
    gone.leave()
    await room.host(scope_of(), gone.receive, gone.send)


@on_each_loop
async def test_who_leaves_while_stalled_is_gone_at_once() -> None:
    room = Room()
    async with opened(room) as ada, opened(room) as slow:
        await slow.join("Slow")
        await ada.join("Ada")
        slow.may_write = anyio.Event()
        ada.say("not read by everybody")
        assert (await ada.next())["type"] == "said"
        slow.put({"type": "websocket.disconnect", "code": 1006, "reason": ""})

        assert await ada.next() == {"type": "left", "name": "Slow", "present": 1}


@on_each_loop
async def test_what_the_server_cancels_is_not_there_any_more() -> None:
    room = Room()
    async with opened(room) as ada:
        await ada.join("Ada")
        grace = Browser()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(room.host, scope_of(), grace.receive, grace.send)
            await grace.join("Grace")
            tasks.cancel_scope.cancel()

        await ada.until("left", name="Grace", present=1)


def test_a_member_is_heard_at_intervals() -> None:
    times = []

    async def main() -> None:
        async with opened(Room()) as ada:
            await ada.join("Ada")
            for number in range(4):
                ada.say(str(number))
            for number in range(4):
                assert (await ada.until("said"))["text"] == str(number)
                times.append(trio.current_time())

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([chat.SPEAK_INTERVAL_SECONDS] * 3)


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        (OWN_PAGE, True),
        ({"host": "Example.org", "origin": "https://example.org"}, True),
        ({"host": "[::1]:8080", "origin": "http://[::1]:8080"}, True),
        ({"host": "127.0.0.1:8080"}, True),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:9000"}, False),
        ({"host": "127.0.0.1:8080", "origin": "https://elsewhere.example"}, False),
        ({"host": "127.0.0.1:8080", "origin": "null"}, False),
        ({"host": "127.0.0.1:8080", "origin": ""}, False),
        ({"host": "127.0.0.1:8080", "origin": "http://[::1"}, False),
        ({"origin": "http://127.0.0.1:8080"}, False),
    ],
)
def test_pages_of_other_sites_stay_outside(headers: dict[str, str], is_let_in: bool) -> None:
    browser = Browser()
    browser.put({"type": "websocket.disconnect", "code": 1001, "reason": ""})

    async def main() -> dict[str, Any]:
        await Room().host(scope_of(headers), browser.receive, browser.send)
        return await browser.next()

    first = trio.run(main)

    assert first == {"type": "websocket.accept" if is_let_in else "websocket.close"}


@pytest.mark.parametrize("root_path", ["", "/mounted"])
def test_the_page_has_the_chat_where_it_is_mounted(root_path: str) -> None:
    browser = Browser()
    browser.put({"type": "websocket.disconnect", "code": 1001, "reason": ""})
    scope = scope_of(path=f"{root_path}/chat", root_path=root_path)

    async def main() -> dict[str, Any]:
        await page.app(scope, browser.receive, browser.send)
        return await browser.next()

    assert trio.run(main) == {"type": "websocket.accept"}


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x>', "&lt;b&gt;"])
def test_a_name_goes_out_as_it_came_in(name: str) -> None:
    """Escaping is the page's part: done here as well, it would show."""

    async def main() -> str:
        async with opened(Room()) as ada:
            return await ada.join(name[: chat.MAX_NAME_CHARACTERS])

    assert trio.run(main) == name[: chat.MAX_NAME_CHARACTERS]


@pytest.mark.parametrize(
    ("identifier", "limit"),
    [("chat-name", chat.MAX_NAME_CHARACTERS), ("chat-text", chat.MAX_TEXT_CHARACTERS)],
)
def test_the_page_lets_nobody_type_more_than_the_room_takes(identifier: str, limit: int) -> None:
    html = WEB_FILES["page.html"].body.decode()

    found = re.search(rf'<input id="{identifier}"[^>]* maxlength="(\d+)"', html)

    assert found
    assert int(found[1]) == limit


def test_no_script_reads_text_as_html() -> None:
    for name, file in WEB_FILES.items():
        if name.endswith(".js"):
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|\.write\(", str(file.body)
            )
