"""Frameworks that people run, behind a real Nginx: side by side in one bridge, on each loop that they know.

All of it runs as processes of this machine and once more in the project's containers.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from websockets.sync.client import connect

from integration.asgi.apps.frameworks.exercises import PIECES
from integration.asgi.conftest import APPS, Kind, assert_clean
from uwsgibridge.testing import LocalStack, event_with

if TYPE_CHECKING:
    from integration.asgi.conftest import Stack

UPLOAD = struct.pack(">250000I", *range(250_000))

SITES = {
    "asyncio": ("fastapi", "starlette", "django", "quart", "litestar"),
    "trio": ("fastapi", "starlette", "quart-trio", "litestar"),
}
# What the sites import; the bridge's image has FastAPI at most.
PACKAGES = ("django", "fastapi", "litestar", "python-multipart", "quart", "quart-trio", "starlette")

WITHOUT_LIFESPAN = {"django"}
WITHOUT_WEBSOCKETS = {"django"}
WITHOUT_BACKGROUND = {"django"}
ENDS_STREAMS = {"fastapi", "starlette", "litestar"}
# All frameworks answer 500 themselves; these also raise the error to the server.
RAISES_WHAT_IT_ANSWERED = {"fastapi", "starlette"}

numbers = itertools.count()


KINDS = [
    Kind("asyncio", "unix"),
    Kind("uvloop", "tcp"),
    Kind("trio", "unix"),
    Kind("uvloop", "unix", place="compose"),
    Kind("trio", "tcp", place="compose"),
]


def library_of(kind: Kind) -> str:
    """What frameworks take a loop for."""
    return "trio" if kind.loop == "trio" else "asyncio"


PLACES = [(kind, name) for kind in KINDS for name in SITES[library_of(kind)]]

pytestmark = pytest.mark.parametrize(
    ("kind", "name"),
    PLACES,
    ids=[f"{kind.place}-{kind.loop}-{name}" for kind, name in PLACES],
    indirect=["kind"],
    scope="session",
)


@dataclass(frozen=True)
class Site:
    """A site that is served."""

    stack: Stack
    name: str
    library: str

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.stack.url}/{self.name}"

    @property
    def client(self) -> str:
        """Whom Nginx takes this machine for."""
        if isinstance(self.stack, LocalStack):
            return "127.0.0.1"
        networks = self.stack.nginx.attrs["NetworkSettings"]["Networks"]
        address: str = networks[f"{self.stack.project}_frontend"]["Gateway"]
        return address

    def wait_told(self, what: str) -> None:
        """Wait until the site tells something."""
        self.stack.wait_for_event(event_with(event="app", path=f"/{self.name}", told=what))

    def told(self, what: str) -> int:
        """Count how often it has told something."""
        wanted = event_with(event="app", path=f"/{self.name}", told=what)
        return sum(map(wanted, self.stack.log_events()))


@pytest.fixture(scope="session")
def sites(kind: Kind, serve: Callable[..., Stack]) -> Iterator[Stack]:
    """All sites that a loop can run, side by side."""
    names = SITES[library_of(kind)]
    modules = {name: f"{APPS}.frameworks.{name.replace('-', '_')}_site" for name in names}
    mounts = [("--mount", f"/{name}={module}:app") for name, module in modules.items()]
    options: dict[str, Any] = {"serve_args": tuple(itertools.chain(*mounts))}
    if kind.place == "compose":
        # In the versions that run here.
        options["requirements"] = [f"{name}=={metadata.version(name)}" for name in PACKAGES]
    stack = serve("behaviours:application", kind, **options)
    yield stack
    assert stack.stop() == 0
    # Of trio's about generators that frameworks do not close.
    assert_clean(stack, but="ResourceWarning")
    for name in set(names) - WITHOUT_LIFESPAN:
        assert [
            event["told"]
            for event in stack.log_events()
            if event.get("path") == f"/{name}" and event["told"] in {"startup", "shutdown"}
        ] == ["startup", "shutdown"]


@pytest.fixture
def site(kind: Kind, name: str, sites: Stack) -> Site:
    """The site in one framework."""
    return Site(sites, name, library_of(kind))


@pytest.fixture
def key() -> str:
    """What no other test has in its paths."""
    return f"key-{next(numbers)}"


@pytest.fixture
def browser() -> Iterator[requests.Session]:
    """A client that speaks to nobody but the address that it is given."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_forms_arrive_whole(site: Site, browser: requests.Session) -> None:
    fields = {"name": ["one", "\N{SNOWMAN} & more"], "other": ["caf\u00e9 +"]}
    answer = browser.post(f"{site.url}/form", data=fields)
    assert (answer.status_code, answer.json()) == (200, fields)


@pytest.mark.parametrize("size", [0, 1000, len(UPLOAD)])
def test_uploads_arrive_whole(site: Site, browser: requests.Session, size: int) -> None:
    content = UPLOAD[:size]
    files = {"file": ("p\u00e4ckchen.bin", content, "application/octet-stream")}
    answer = browser.post(f"{site.url}/upload", files=files)
    assert answer.json() == {"name": "p\u00e4ckchen.bin", **about(content)}


def test_bodies_are_read_as_streams(site: Site, browser: requests.Session) -> None:
    found = browser.post(f"{site.url}/raw", data=UPLOAD).json()
    # Quart joins what has arrived.
    assert found.pop("pieces") > (0 if "quart" in site.name else 10)
    assert found == about(UPLOAD)


def about(content: bytes) -> dict[str, object]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_streams_arrive_whole(site: Site, browser: requests.Session) -> None:
    assert browser.get(f"{site.url}/stream").content == b"".join(PIECES)


def test_files_arrive_whole(site: Site, browser: requests.Session) -> None:
    content = browser.get(f"{site.url}/file").content
    sources = Path(__file__).parent.joinpath("apps", "frameworks").glob("*.py")
    assert content in [path.read_bytes() for path in sources]


def test_events_arrive_when_they_are_sent(site: Site, browser: requests.Session, key: str) -> None:
    """Each arrives when it is sent, whatever Nginx would like to collect."""
    with browser.get(f"{site.url}/events/{key}", stream=True, timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines(chunk_size=1)
        assert next(lines) == b"data: first"
        assert requests.post(f"{site.url}/signal/{key}", timeout=20).status_code == 204
        assert [line for line in lines if line] == [b"data: second"]


def test_websockets_carry_messages_both_ways(site: Site) -> None:
    if site.name in WITHOUT_WEBSOCKETS:
        pytest.skip("the framework has none")
    url = f"{site.url}/echo".replace("http", "ws")
    with connect(url, proxy=None) as peer:
        for message in ("", "caf\u00e9 \N{SNOWMAN}", "x" * 1_000_000):
            peer.send(message)
            assert peer.recv() == message
        if site.name != "litestar":
            peer.send(b"\x00\xff")
            assert peer.recv() == b"\x00\xff"
        peer.close(4001)
        assert peer.close_code == 4001
    if "quart" not in site.name:
        site.wait_told("disconnect 4001")


def test_background_tasks_run_after_the_answer(
    site: Site, browser: requests.Session, key: str
) -> None:
    if site.name in WITHOUT_BACKGROUND:
        pytest.skip("the framework has none")
    assert browser.post(f"{site.url}/background/{key}", timeout=20).json() == {"answered": True}
    # The answer was here first, so the task goes on by itself.
    assert site.told(f"background {key}") == 0
    assert browser.post(f"{site.url}/signal/{key}").status_code == 204
    site.wait_told(f"background {key}")


def test_a_stream_ends_when_its_client_leaves(site: Site, browser: requests.Session) -> None:
    if site.name not in ENDS_STREAMS:
        pytest.skip("the framework leaves that to the garbage collector")
    before = site.told("endless ended")
    with browser.get(f"{site.url}/endless", stream=True, timeout=20) as answer:
        assert next(answer.iter_content(1)) == b"\0"
    site.stack.wait_for_event(lambda _: site.told("endless ended") == before + 1)


def test_the_state_of_the_lifespan_reaches_requests(site: Site, browser: requests.Session) -> None:
    if site.name in WITHOUT_LIFESPAN:
        pytest.skip("the framework has none")
    assert browser.get(f"{site.url}/state").json() == {"greeting": "from the lifespan"}


def test_the_loop_is_seen_as_what_it_is(site: Site, browser: requests.Session) -> None:
    found = browser.get(f"{site.url}/libraries").json()
    assert found["sniffio"] == site.library
    assert found["anyio"] == site.library


def test_addresses_are_those_of_the_client(site: Site, browser: requests.Session) -> None:
    found = browser.get(f"{site.url}/where?a=%C3%A9").json()
    assert found["client"] == site.client
    assert found["root"] == f"/{site.name}"
    assert found["url"].startswith(f"{site.url}/where?a=")


def test_failures_are_told_once(site: Site, browser: requests.Session, key: str) -> None:
    assert browser.get(f"{site.url}/fail").status_code == 500
    assert browser.post(f"{site.url}/signal/{key}").status_code == 204
    site.wait_told(f"signal {key}")
    path = f"/{site.name}/fail"
    events = [event for event in site.stack.log_events() if event.get("path") == path]
    assert len(events) == (site.name in RAISES_WHAT_IT_ANSWERED)
    for event in events:
        assert event["event"] == "application failed"
        assert event["outcome"] == "the answer was complete"
        assert "ValueError: of the site" in str(event["exception"])


def test_plain_functions_run_in_threads(site: Site, browser: requests.Session) -> None:
    if site.name != "fastapi":
        pytest.skip("it is FastAPI that has them")
    assert browser.get(f"{site.url}/thread").json() == {"is_main": False}


def test_many_requests_wait_at_once(site: Site, key: str) -> None:
    """Many streams that wait, and are let go by one more request."""
    answers: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(
                requests.get(f"{site.url}/events/{key}", timeout=20).content
            )
        )
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    requests.post(f"{site.url}/signal/{key}", timeout=20)
    for thread in threads:
        thread.join()
    assert answers == [b"data: first\n\ndata: second\n\n"] * 20
