"""The demo's page in a browser: the clock ticks, the chat passes messages on and comes back after a break."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from integration.chromium import (
    PATIENCE_SECONDS,
    Page,
    open_chromium,
    open_page,
    open_websocket,
)
from integration.line_reader import LineReader

MARKUP = "<img src=x onerror=console.error('read-as-HTML')> & <b>hello</b>"


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Run ``uwsgibridge demo`` or ``dev``, and end it as Ctrl-C does; the URL of its Nginx, without a slash."""
    process = subprocess.Popen(
        (sys.executable, "-m", "uwsgibridge", *arguments, "--port", "0"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={name: it for name, it in os.environ.items() if not name.startswith("UWSGIBRIDGE_")},
        # Ctrl-C is for the test run, which stops it.
        start_new_session=True,
    )
    assert process.stdout is not None
    with LineReader(process.stdout) as lines:
        try:
            yield lines.wait_for(r"(http://127\.0\.0\.1:\d+)/", PATIENCE_SECONDS)[1]
        finally:
            process.send_signal(signal.SIGINT)
            status = process.wait(PATIENCE_SECONDS)
    assert status == 0


@pytest.fixture(scope="module")
def chromium() -> Iterator[ClientConnection]:
    """The Chromium on PATH; Debian's package `chromium` puts it there."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs a browser: no `chromium` on PATH")
    with open_chromium(program) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def demo(chromium: ClientConnection) -> Iterator[str]:
    with running("demo") as url:
        yield url


@pytest.fixture
def page(chromium: ClientConnection, demo: str) -> Iterator[Page]:
    """The demo's page, in the chat already."""
    with open_page(chromium, f"{demo}/") as page:
        page.until(IS_IN_THE_CHAT)
        yield page


def text_of(identifier: str) -> str:
    return f"document.getElementById('{identifier}').textContent"


def chat_is(state: str) -> str:
    return f"{text_of('chat-state')}.startsWith('{state}')"


def log_has(text: str) -> str:
    return f"{text_of('chat-log')}.includes('{text}')"


def someone_said(name: str, text: str) -> str:
    """Find a message in the page's log, as the text that one reads there."""
    return (
        "[...document.querySelectorAll('#chat-log .chat-said')].some((entry) =>"
        f" entry.querySelector('.chat-who').textContent === {json.dumps(name)}"
        f" && entry.querySelector('.chat-text').textContent === {json.dumps(text)})"
    )


def type_and_send(text: str) -> str:
    return (
        f"document.getElementById('chat-text').value = {json.dumps(text)};"
        " document.getElementById('chat-send').click()"
    )


IS_IN_THE_CHAT = f"{chat_is('live')} && {log_has('You are here as Guest')}"
TYPED = "document.getElementById('chat-text').value"


class Guest:
    """A second client of the chat, which is no browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def tell(self, **message: str) -> None:
        self._connection.send(json.dumps(message))

    def until(self, kind: str, **fields: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = json.loads(self._connection.recv(PATIENCE_SECONDS))
            if message["type"] == kind and message.items() >= fields.items():
                return message


@contextmanager
def guest_at(url: str) -> Iterator[Guest]:
    with open_websocket(f"{url.replace('http', 'ws', 1)}/chat", origin=url) as connection:
        yield Guest(connection)


def test_the_clock_ticks(page: Page) -> None:
    clock = text_of("clock")
    first = page.until(f"/^\\d\\d:\\d\\d:\\d\\d$/.test({clock}) && {clock}")

    page.until(f"{clock} !== '{first}'")

    assert page.evaluate(text_of("clock-status")) == "live"


def test_a_message_arrives_from_another_client_and_an_answer_goes_back(
    page: Page, demo: str
) -> None:
    own_name = page.evaluate("document.getElementById('chat-name').value")
    with guest_at(demo) as guest:
        guest.tell(type="name", name="Grace")
        guest.tell(type="say", text=MARKUP)
        page.until(someone_said("Grace", MARKUP))
        assert page.evaluate("document.querySelectorAll('#chat-log :is(img, b)').length") == 0
        page.until(f"{text_of('chat-present')} === '2 people'")
        guest.until("said", name="Grace")

        page.evaluate(type_and_send("Hello, Grace"))
        assert guest.until("said", name=own_name)["text"] == "Hello, Grace"
        page.until(someone_said(own_name, "Hello, Grace"))
        assert page.evaluate(TYPED) == ""
    page.until(f"{text_of('chat-present')} === 'you alone'")


def test_without_a_connection_the_page_says_so_and_keeps_what_is_typed(page: Page) -> None:
    page.evaluate("document.getElementById('chat-button').click()")
    page.until(chat_is("disconnected"))
    page.evaluate(type_and_send("nobody hears this"))
    page.until(log_has("Not sent"))
    assert page.evaluate(TYPED) == "nobody hears this"

    page.evaluate("document.getElementById('chat-button').click()")
    page.until(chat_is("live"))
    page.evaluate("document.getElementById('chat-send').click()")
    page.until(f"{TYPED} === '' && {log_has('nobody hears this')}")


def test_the_page_has_no_complaints_and_may_connect_to_nobody_else(page: Page) -> None:
    page.until(f"{text_of('route-applications')} === '3 of 3 answer'")
    assert page.errors == []

    directive = page.evaluate(
        "new Promise((resolve) => {"
        " addEventListener('securitypolicyviolation', (event) => resolve(event.effectiveDirective));"
        " new WebSocket('ws://localhost:1/chat'); })"
    )

    assert directive == "connect-src"
    assert len(page.errors) == 1  # so this is where it would have been seen


def test_the_chat_comes_back_after_a_restart(chromium: ClientConnection, tmp_path: Path) -> None:
    with (
        running("dev", "uwsgibridge.demo.page:app", "--app-dir", str(tmp_path)) as url,
        open_page(chromium, f"{url}/") as page,
    ):
        page.until(IS_IN_THE_CHAT)

        (tmp_path / "changing.py").write_text("changed = True\n")
        page.until(log_has("Not connected: the server is restarting."))
        page.until(f"{text_of('chat-log')}.split('You are here as').length === 3")
        assert page.evaluate(chat_is("live"))

        with guest_at(url) as guest:
            # The page has brought its name along: the new room would have given the guest just that.
            guest.tell(type="name", name="")
            assert guest.until("named")["name"] == "Guest 1 (2)"
            page.evaluate(type_and_send("back again"))
            assert guest.until("said")["text"] == "back again"
