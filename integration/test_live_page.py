"""The live view in a real browser: what it shows, whatever clients have sent, and when it asks."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest
import trio
from websockets.sync.client import ClientConnection

from integration.chromium import Page, open_chromium, open_page
from uwsgibridge.live_page.pages import live_pages

HOSTILE: Final = "/<script>document.title='taken'</script><img src=x onerror=alert(1)>"

WORKER: Final[dict[str, Any]] = {
    "pid": 4712, "generation": 3, "state": "busy", "age_seconds": 12.0, "requests": 100,
    "in_flight": 2, "capacity": 8, "rss_bytes": 12_345_678, "cpu_seconds": 1.2, "queue_seconds": 0.001,
}  # fmt: skip


class Service:
    """What a supervisor would tell, behind HTTP.

    Attributes:
        is_gone: whether each answer is 502, as Nginx gives it for a service that is gone.
        asked: how often the status was asked for.
    """

    def __init__(self) -> None:
        self.is_gone = False
        self.asked = 0

    async def status(self) -> dict[str, Any]:
        self.asked += 1
        return {
            "version": "0.1.0", "pid": 1, "name": f"shop{HOSTILE}", "state": "running", "generation": 3,
            "started_seconds_ago": 10.0 + self.asked, "requests": 100 * self.asked, "app_errors": 1,
            "refused": {"not_mounted": 2}, "slow_requests": 0, "listening": [{"waiting": 3}],
            "latency": {"bounds": [0.01, 0.1], "counts": [10 * self.asked, 0, 0]},
            "workers": [{**WORKER, "requests": 100 * self.asked}],
        }  # fmt: skip

    async def requests(self, *, limit: int, older_seconds: float, stacks: bool) -> dict[str, Any]:
        assert (limit, older_seconds, stacks) == (200, 0.0, False)
        request = {
            "pid": 4712, "age_seconds": 75.5, "phase": "application", "method": "GET", "path": HOSTILE,
            "application": "shop", "mount": "", "thread": "wsgi-1", "task": None, "request_id": None,
        }  # fmt: skip
        return {"requests": [request], "left_out": 4}


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture(scope="module")
def chromium() -> Iterator[ClientConnection]:
    """The Chromium on PATH; Debian's package `chromium` puts it there."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs a browser: no `chromium` on PATH")
    with open_chromium(program) as chromium:
        yield chromium


@pytest.fixture
def page(chromium: ClientConnection, service: Service) -> Iterator[Page]:
    """The page in a browser that has loaded it."""
    made = live_pages(service)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if service.is_gone or self.path not in made:
                self.send_error(502)
                return
            answer = trio.run(made[self.path])
            self.send_response(200)
            for name, value in {"Content-Type": answer.content_type, **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        with open_page(chromium, address) as opened:
            yield opened
    finally:
        server.shutdown()
        server.server_close()


def test_what_clients_have_sent_is_shown_as_text(page: Page) -> None:
    page.until("document.querySelector('td.request')")
    assert page.evaluate("document.querySelector('td.request').textContent") == f"GET {HOSTILE}"
    assert page.evaluate("document.getElementById('name').textContent") == f"shop{HOSTILE}"
    assert page.evaluate("document.images.length + document.scripts.length") == 1
    assert page.evaluate("document.title").startswith("shop/<script>")
    assert page.errors == []  # its own policy is kept


def test_rates_follow_and_a_lost_connection_is_told(page: Page, service: Service) -> None:
    shown = page.until(
        "document.getElementById('rate').textContent !== '-' && document.getElementById('p50').textContent"
    )
    assert shown == "5.0 ms"
    assert page.evaluate("document.getElementById('rate').textContent") == "100.0"
    assert page.evaluate("document.getElementById('more').textContent") == "and 4 more"
    service.is_gone = True
    lost = page.until("document.querySelector('#connection.lost')?.textContent")
    assert lost.startswith("connection lost, as of ")
    service.is_gone = False
    page.until("document.getElementById('connection').textContent === 'live'")


def test_a_hidden_page_asks_for_nothing(page: Page, service: Service) -> None:
    page.until("document.querySelector('td.request')")
    hide = "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}}); document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide.format("true"))
    assert page.evaluate("document.getElementById('connection').textContent") == "paused"
    asked = service.asked
    # Longer than the time to the next look: nothing shows that there is none.
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 2500))")
    assert service.asked == asked
    page.evaluate(hide.format("false"))
    page.until("document.getElementById('connection').textContent === 'live'")
    assert service.asked > asked


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page._session.call("Emulation.setDeviceMetricsOverride", **size)
    page.until("document.querySelector('td.request')")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert (
        json.loads(
            page.evaluate(
                "JSON.stringify([...document.querySelectorAll('td')].filter((it) => it.scrollWidth > it.clientWidth + 1).length)"
            )
        )
        == 0
    )
