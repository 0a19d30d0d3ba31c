"""The demo's chat: all browsers get what one sends over its WebSocket. Nothing is kept.

Messages are JSON objects with a `type`. A browser sends:

    name    name                    the first one joins, a later one renames; for an empty one, the room finds a name
    say     text

and gets:

    presence    present             somebody without a name has come or gone
    named       name                your own name now: without invisible characters, and nobody else's
    joined      name, present
    renamed     before, name
    said        name, text, time
    left        name, present

Names and texts are passed on as they are; the page must show them as text, not as HTML.
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from uwsgibridge.demo.asgi import Receive, Scope, Send
from uwsgibridge.demo.event_loop import Event, make_event, run_both, sleep

MAX_MEMBERS: Final = 50
MAX_NAME_CHARACTERS: Final = 24
MAX_TEXT_CHARACTERS: Final = 500

# The least time between two messages of one member. Faster senders are not refused: their messages are read later,
# and the WebSocket's backpressure makes them wait.
SPEAK_INTERVAL_SECONDS: Final = 0.25

# JSON may write one character as two escapes of six characters each.
_MAX_MESSAGE_CHARACTERS: Final = 12 * MAX_TEXT_CHARACTERS + 200

# Codes of RFC 6455, section 7.4.1; the last one is from IANA's registry for it.
_POLICY_VIOLATION: Final = 1008
_TOO_BIG: Final = 1009
_TRY_AGAIN_LATER: Final = 1013


class Room:
    """The members of this process's chat.

    Args:
        max_members: how many members there may be; the next one is refused.
        max_waiting: how many messages may wait for a member who reads slowly. A member with more is
            removed, so that the others need not wait.
    """

    def __init__(self, max_members: int = MAX_MEMBERS, max_waiting: int = 200) -> None:
        self._max_members = max_members
        self._max_waiting = max_waiting
        self._members: list[_Member] = []
        self._guests = 0

    async def host(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one WebSocket of ASGI, from its handshake to its end."""
        await receive()
        try:
            if not _is_from_own_page(scope):
                # Closing before accepting: the client gets 403.
                await send({"type": "websocket.close"})
                return
            await send({"type": "websocket.accept"})
            if len(self._members) >= self._max_members:
                reason = f"all {self._max_members} places are taken"
                await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": reason})
                return
        except OSError:
            return  # the client is gone
        member = _Member(self._max_waiting)
        self._members.append(member)
        self._tell_presence()
        try:
            await run_both(lambda: self._listen(member, receive), lambda: member.write(send))
        finally:
            self._remove(member)

    async def _listen(self, member: "_Member", receive: Receive) -> None:
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                if member not in self._members:
                    return  # the member was too slow, and is being closed
                self._handle_message(member, message.get("text"))
                await sleep(SPEAK_INTERVAL_SECONDS)
            member.end()
        except _Refused as refused:
            member.end(refused.close)
        # The member is removed before its messages are written, which may take a minute with a client that does not
        # read.
        self._remove(member)

    def _handle_message(self, member: "_Member", message: str | None) -> None:
        match _decoded(message):
            case {"type": "name", "name": str(name)}:
                self._name(member, name)
            case {"type": "say", "text": str(text)}:
                self._say(member, text)
            case _:
                raise _Refused(_POLICY_VIOLATION, "that is no message of this chat")

    def _name(self, member: "_Member", wanted: str) -> None:
        if len(wanted) > MAX_NAME_CHARACTERS:
            raise _Refused(_TOO_BIG, f"a name has at most {MAX_NAME_CHARACTERS} characters")
        before, member.name = member.name, ""
        member.name = self._free_name(_visible(wanted))
        self._pass_on({"type": "named", "name": member.name}, to=[member])
        if not before:
            self._tell_presence({"type": "joined", "name": member.name})
        elif before != member.name:
            self._pass_on({"type": "renamed", "before": before, "name": member.name})

    def _say(self, member: "_Member", text: str) -> None:
        if not member.name:
            raise _Refused(_POLICY_VIOLATION, "a name comes before the first text")
        if len(text) > MAX_TEXT_CHARACTERS:
            raise _Refused(_TOO_BIG, f"a text has at most {MAX_TEXT_CHARACTERS} characters")
        words = " ".join(text.split())
        if words:
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._pass_on({"type": "said", "name": member.name, "text": words, "time": time})

    def _free_name(self, wanted: str) -> str:
        taken = {member.name.casefold() for member in self._members}
        if not wanted:
            self._guests += 1
            wanted = f"Guest {self._guests}"
        name, number = wanted, 1
        while name.casefold() in taken:
            number += 1
            suffix = f" ({number})"
            name = wanted[: MAX_NAME_CHARACTERS - len(suffix)] + suffix
        return name

    def _remove(self, member: "_Member") -> None:
        if member in self._members:
            self._members.remove(member)
            left = {"type": "left", "name": member.name} if member.name else {"type": "presence"}
            self._tell_presence(left)

    def _tell_presence(self, message: Mapping[str, str] | None = None) -> None:
        self._pass_on({**(message or {"type": "presence"}), "present": len(self._members)})

    def _pass_on(
        self, message: Mapping[str, str | int], *, to: "list[_Member] | None" = None
    ) -> None:
        text = json.dumps(message)
        for member in list(self._members if to is None else to):
            if not member.hand(text):
                self._remove(member)


@dataclass(frozen=True, slots=True)
class _Close:
    """How the room closes a WebSocket."""

    code: int
    reason: str


class _Refused(Exception):
    """A message that the page would never send; its WebSocket is closed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.close = _Close(code, reason)


class _Member:
    """One browser, and the messages that wait to be sent to it."""

    def __init__(self, max_waiting: int) -> None:
        self.name = ""
        self._max_waiting = max_waiting
        self._waiting: deque[str] = deque()
        self._wake: Event = make_event()
        self._is_ended = False
        self._close: _Close | None = None

    def hand(self, text: str) -> bool:
        """Have a message sent; False where too many wait already, which ends the member."""
        if self._is_ended:
            return True
        if len(self._waiting) >= self._max_waiting:
            self._waiting.clear()
            self.end(_Close(_TRY_AGAIN_LATER, "too slow for the others"))
            return False
        self._waiting.append(text)
        self._wake.set()
        return True

    def end(self, close: _Close | None = None) -> None:
        """Have the WebSocket closed after the waiting messages; `close` is None where it is closed already."""
        if not self._is_ended:
            self._is_ended = True
            self._close = close
            self._wake.set()

    async def write(self, send: Send) -> None:
        """Send the messages of `hand` until `end` is called."""
        try:
            while self._waiting or not self._is_ended:
                while self._waiting:
                    await send({"type": "websocket.send", "text": self._waiting.popleft()})
                if not self._is_ended:
                    self._wake = make_event()
                    await self._wake.wait()
            if self._close is not None:
                code, reason = self._close.code, self._close.reason
                await send({"type": "websocket.close", "code": code, "reason": reason})
        except OSError:
            # The client is gone, or does not read: `receive` will say so, too.
            self._waiting.clear()
            self._is_ended = True


def _is_from_own_page(scope: Scope) -> bool:
    """Whether a WebSocket was opened by a page of this site, or by no page.

    A browser lets any site open a WebSocket to any other site, and names the site of the page (RFC 6455,
    section 10.2).
    """
    headers: dict[bytes, bytes] = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc == headers.get(b"host", b"").lower()
    except ValueError:
        return False


def _decoded(message: str | None) -> object:
    if message is None:
        raise _Refused(_POLICY_VIOLATION, "that is no text")
    if len(message) > _MAX_MESSAGE_CHARACTERS:
        raise _Refused(_TOO_BIG, f"a message has at most {_MAX_MESSAGE_CHARACTERS} characters")
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        raise _Refused(_POLICY_VIOLATION, "that is no JSON") from None


def _visible(name: str) -> str:
    """Remove invisible characters, some of which change the direction of text; join blanks into one."""
    return " ".join("".join(it if it.isprintable() else " " for it in name).split())
