"""What must be true of every application here: it works, and nobody's leaving or stopping breaks anything.

A test class inherits from `Checks`, names its application, and says what its users do: `use` in full,
`ask` as one request that needs nothing of an earlier one, and `open` as an answer that takes long.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from integration.applications.site import ON_ASYNCIO, PATIENCE_SECONDS, Kind, Site
from tests.processes import wait_gone
from uwsgibridge.control.client import ask
from uwsgibridge.testing import Site as NginxSite

# A client that left is noticed at once; figures of workers come each second.
ABORT_SECONDS: Final = 8.0

# Texts that libraries, Python and its event loops write when something went wrong.
_COMPLAINT: Final = re.compile(
    r"Traceback \(most recent|\bERROR\b|\bCRITICAL\b|Exception ignored|never retrieved|never awaited"
    r"|was destroyed but it is pending|ResourceWarning"
)
_ASKERS: Final = 3
_ASKER_PAUSE_SECONDS: Final = 0.02


class Checks:
    """An application with its four tests; the attributes say what differs.

    Attributes:
        app: as ``module:attribute``, below `apps`.
        needs: the modules that it imports.
        why_not: why it can't run on this Python, if it can't.
        kinds: what it runs on.
        environment: variables for it; ``{directory}`` in a value is the application's own.
        serve_args: further arguments of ``uwsgibridge serve``.
        nginx: options of Nginx.
        nginx_directives: further lines of Nginx's ``server``.
        graceful_timeout_seconds: more than any end takes, so that its use is seen.
        stop_seconds: how long a stop may take while a stream is open.
        excused: expressions for what others are to blame for, each from the beginning of a line to the
            end of one; a reason stands beside it.
    """

    app: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    why_not: ClassVar[str] = ""
    kinds: ClassVar[tuple[Kind, ...]] = ON_ASYNCIO
    environment: ClassVar[Mapping[str, str]] = {}
    serve_args: ClassVar[tuple[str, ...]] = ()
    nginx: ClassVar[NginxSite] = NginxSite()
    nginx_directives: ClassVar[str] = ""
    graceful_timeout_seconds: ClassVar[float] = 30.0
    stop_seconds: ClassVar[float] = 15.0
    excused: ClassVar[tuple[str, ...]] = ()

    def prepare(self, directory: Path) -> None:
        """Put into the application's directory what has to be there before it starts."""

    def use(self, site: Site) -> None:
        """Do what the application's users do, and look at what comes."""
        raise NotImplementedError

    def ask(self, site: Site, browser: requests.Session) -> None:
        """Ask for one thing that needs nothing of what was asked before, and look at the answer."""
        raise NotImplementedError

    def open(self, site: Site) -> AbstractContextManager[Callable[[], None]]:
        """Begin what goes on until its client leaves, which is at the end of the block.

        Yields:
            What reads the rest. An answer that has an end, such as a download, must then be whole; one
            that has none, such as events or a WebSocket, ends because its server says so.
        """
        raise NotImplementedError

    # The tests.

    @pytest.fixture(autouse=True)
    def _nothing_is_complained_of(self, site: Site) -> Iterator[None]:
        log, begun_at = site.stack.log, site.stack.log.line_count()
        yield
        self.look_at(log.text(since_line=begun_at))

    def test_it_does_what_its_users_want(self, site: Site) -> None:
        self.use(site)

    def test_a_client_that_leaves_in_mid_stream_leaves_nothing(self, site: Site) -> None:
        self._wait_idle(site)
        with self.open(site):
            self._wait_busy(site)
        self._wait_idle(site)
        self.use(site)

    def test_a_reload_while_it_is_used_loses_nothing(self, site: Site) -> None:
        old = [it["pid"] for it in site.workers()]
        with self.open(site) as finish:
            self._wait_busy(site)
            with asking(self, site) as outcomes, in_background(finish):
                ask(site.control, "reload", timeout_seconds=PATIENCE_SECONDS)
                before = len(outcomes)
                site.wait(
                    lambda: len(outcomes) >= before + _ASKERS,
                    seconds=PATIENCE_SECONDS,
                    why="no answers of the new worker",
                )
            begun_at = time.monotonic()
            for pid in old:
                assert wait_gone(pid, PATIENCE_SECONDS), "the old worker stays"
            took = time.monotonic() - begun_at
        assert [it for it in outcomes if it is not None] == []
        assert took < self.stop_seconds, "the old worker was slow to end"
        assert [it["pid"] for it in site.workers()] != old
        self.use(site)

    def test_a_stop_ends_in_time(self, site: Site) -> None:
        with self.open(site) as finish:
            self._wait_busy(site)
            begun_at = time.monotonic()
            site.stack.bridge.signal(signal.SIGTERM)
            with in_background(finish):
                status = site.stack.bridge.wait_ended(self.graceful_timeout_seconds * 2)
            took = time.monotonic() - begun_at
        site.stack.stop()
        assert status == 0
        assert took < self.stop_seconds

    # What the tests have in common.

    def look_at(self, text: str) -> None:
        """Fail where something is complained of in a log."""
        for expression in self.excused:
            text = re.sub(expression, "", text, flags=re.MULTILINE)
        lines = [line for line in text.splitlines() if _is_complaint(line)]
        assert not lines, "\n".join(lines)

    def _wait_idle(self, site: Site) -> None:
        site.wait(
            lambda: site.in_flight() == 0, seconds=ABORT_SECONDS, why="the request did not end"
        )

    def _wait_busy(self, site: Site) -> None:
        site.wait(
            lambda: site.in_flight() >= 1, seconds=ABORT_SECONDS, why="the stream is not there"
        )


@contextlib.contextmanager
def in_background(do: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread, which has to end with the block, and well."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(do)
        yield
        done.result(PATIENCE_SECONDS)


@contextlib.contextmanager
def asking(checks: Checks, site: Site) -> Iterator[list[BaseException | None]]:
    """Ask over and over for as long as the block lasts.

    Yields:
        What came of each: None, or what went wrong.
    """
    outcomes: list[BaseException | None] = []
    enough = threading.Event()

    def run() -> None:
        with new_browser() as browser:
            while not enough.wait(_ASKER_PAUSE_SECONDS):
                try:
                    checks.ask(site, browser)
                except Exception as error:
                    outcomes.append(error)
                else:
                    outcomes.append(None)

    threads = [threading.Thread(target=run) for _ in range(_ASKERS)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def new_browser() -> requests.Session:
    """Make a client that speaks to nobody but the address that it is given."""
    session = requests.Session()
    session.trust_env = False
    return session


@contextlib.contextmanager
def streaming(
    method: str, url: str, headers: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Iterator[bytes]]:
    """Begin a request whose answer goes on; at the end of the block its client leaves.

    Yields:
        The lines of the answer that are not empty.
    """
    with (
        new_browser() as browser,
        browser.request(
            method,
            url,
            stream=True,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            **{"timeout": PATIENCE_SECONDS, **options},
        ) as answer,
    ):
        answer.raise_for_status()
        # At chunks of one byte it takes a CR LF for two ends of lines.
        yield filter(None, answer.iter_lines(chunk_size=1))


@contextlib.contextmanager
def waiting(url: str, headers: Mapping[str, str] | None = None) -> Iterator[Callable[[], None]]:
    """Ask for what is not answered yet; at the end of the block the client leaves.

    Yields:
        What waits for the answer, which has to be a good one.
    """
    where = urlsplit(url)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=PATIENCE_SECONDS)

    def wait() -> None:
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()

    with contextlib.closing(connection):
        connection.request("GET", f"{where.path}?{where.query}", headers=dict(headers or {}))
        yield wait


@contextlib.contextmanager
def downloading(
    url: str, size: int, auth: tuple[str, str] | None = None
) -> Iterator[Callable[[], None]]:
    """Begin a download that is larger than all buffers on the way; at the end its client leaves.

    Args:
        url: of the file.
        size: of the whole, in bytes.
        auth: name and password of the client.

    Yields:
        What takes the rest, of which not a byte may be missing.
    """
    with new_browser() as browser:
        answer = browser.get(
            url,
            stream=True,
            timeout=PATIENCE_SECONDS,
            headers={"Accept-Encoding": "identity"},
            auth=auth,
        )
        with answer:
            answer.raise_for_status()
            pieces = answer.iter_content(64 * 1024)
            taken = len(next(pieces))

            def read() -> None:
                assert taken + sum(len(piece) for piece in pieces) == size

            yield read


@contextlib.contextmanager
def uploading(
    url: str, content: bytes, headers: Mapping[str, str], *, status: int
) -> Iterator[Callable[[], None]]:
    """Begin a PUT and send half of it; at the end of the block the client leaves.

    Args:
        url: where it goes; Nginx must hand it on while it arrives.
        content: the whole.
        headers: of the request, besides its length.
        status: that the whole is answered with.

    Yields:
        What sends the rest, and looks at the answer.
    """
    where = urlsplit(url)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=PATIENCE_SECONDS)

    def send_the_rest() -> None:
        connection.send(content[len(content) // 2 :])
        answer = connection.getresponse()
        assert answer.status == status
        answer.read()

    with contextlib.closing(connection):
        connection.putrequest("PUT", where.path)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(content[: len(content) // 2])
        yield send_the_rest


def read_until_the_end(lines: Iterator[bytes]) -> Callable[[], None]:
    """Make what reads an answer without an end, until its server ends it in one way or the other."""

    def read() -> None:
        with contextlib.suppress(requests.exceptions.ChunkedEncodingError):
            for _ in lines:
                pass

    return read


def read_until_it_is_closed(peer: ClientConnection) -> Callable[[], None]:
    """Make what reads a WebSocket until its server closes it, in a way that a client understands."""

    def read() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                peer.recv(timeout=PATIENCE_SECONDS)
        # 1006 would be a connection that broke.
        assert peer.close_code in {1000, 1001, 1012}

    return read


def _is_complaint(line: str) -> bool:
    if line.startswith("{"):
        return '"level": "error"' in line or '"level": "warning"' in line
    return bool(_COMPLAINT.search(line))
