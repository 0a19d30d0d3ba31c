"""The access log behind a real Nginx: a line for each request, right in both forms, and no other line."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import fcntl
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from integration.wsgi.apps import accessed
from integration.wsgi.conftest import APPS, REPOSITORY, assert_no_complaints, mount
from integration.wsgi.fetching import PATIENCE_SECONDS, fetch
from integration.wsgi.raw_http import RawHttp
from uwsgibridge.frontend.private import PrivateNginx
from uwsgibridge.testing import BridgeProcess, LogStream, Site, event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

# Apache's LogFormat "combined", then what this bridge adds.
COMBINED = re.compile(
    r"(?P<client>\S+) - (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    r'"(?P<method>\S+) (?P<path>(?:[^"\\ ]|\\.)*) (?P<protocol>\S+)" (?P<status>\d{3}) '
    r'(?P<bytes>\d+|-) "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)" '
    r"queue=(?P<queue>\d+\.\d+) app=(?P<app>\d+\.\d+) total=(?P<total>\d+\.\d+) "
    r"worker=(?P<worker>\d+)(?P<broken> broken)?"
)

_WITH_USER = """
location /user/ {
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_modifier1 30;
    uwsgi_param SCRIPT_NAME /user;
    uwsgi_param PATH_INFO $document_uri;
    uwsgi_param REQUEST_URI $request_uri;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param SERVER_PROTOCOL $server_protocol;
    uwsgi_param REMOTE_ADDR $remote_addr;
    # What the client says who it is.
    uwsgi_param REMOTE_USER $remote_user;
}
# A frontend that does not know how long its bodies are.
location /odd-length/ {
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_param PATH_INFO $document_uri;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param REMOTE_ADDR $remote_addr;
    uwsgi_param CONTENT_LENGTH five;
}
"""

MAX_BODY_BYTES = 1000

numbers = itertools.count()


@dataclass(frozen=True)
class Line:
    """What one line says, whichever form it has."""

    client: str
    user: str | None
    method: str
    path: str
    status: int
    bytes: int
    is_complete: bool
    referer: str | None
    agent: str | None
    queue_seconds: float
    application_seconds: float
    total_seconds: float
    worker: int


class Logged:
    """A stack with an access log.

    Attributes:
        stack: with one thread, so that a request is in the log when the next one is answered.
    """

    def __init__(self, stack: LocalStack, form: str) -> None:
        self.stack = stack
        self._form = form

    def lines(self) -> list[Line]:
        """Give all lines of tests so far; what is neither an access nor another event is a failure."""
        found = []
        for text in self.stack.bridge_log.splitlines():
            found += _parse(text, self._form)
        return [line for line in found if not line.path.startswith("/settled/")]

    def settle(self) -> None:
        """Wait until all lines of requests up to now are there."""
        path = f"/settled/{next(numbers)}"
        assert fetch(self.stack.url + path).status == 204
        self.stack.wait_for_event(event_with(line=path))

    def of(self, path: str) -> Line:
        """Give the one line about a path."""
        self.settle()
        (line,) = [line for line in self.lines() if line.path == path]
        return line


def _parse(text: str, form: str) -> list[Line]:
    if form == "json" or text.startswith("{"):
        event = json.loads(text)
        return [_from_json(event)] if event["event"] == "access" else []
    return [_from_combined(text)]


def _from_json(event: dict[str, Any]) -> Line:
    timestamp = dt.datetime.fromisoformat(event["timestamp"])
    assert abs((dt.datetime.now(dt.UTC) - timestamp).total_seconds()) < 600
    return Line(
        event["client"],
        event["user"],
        event["method"],
        event["path"],
        event["status"],
        event["bytes"],
        event["complete"],
        event["referer"],
        event["user_agent"],
        event["queue_seconds"],
        event["application_seconds"],
        event["total_seconds"],
        event["worker"],
    )


def _from_combined(text: str) -> Line:
    match = COMBINED.fullmatch(text)
    assert match, text
    when = dt.datetime.strptime(match["time"], "%d/%b/%Y:%H:%M:%S %z")
    assert abs((dt.datetime.now(dt.UTC) - when).total_seconds()) < 600

    def known(name: str) -> str | None:
        return None if match[name] == "-" else match[name]

    return Line(
        match["client"],
        known("user"),
        match["method"],
        match["path"],
        int(match["status"]),
        int(known("bytes") or 0),
        match["broken"] is None,
        known("referer"),
        known("agent"),
        float(match["queue"]),
        float(match["app"]),
        float(match["total"]),
        int(match["worker"]),
    )


@pytest.fixture(scope="module", params=["combined", "json"])
def logged(serve: Callable[..., LocalStack], request: pytest.FixtureRequest) -> Iterator[Logged]:
    stack = serve(
        "accessed:application",
        serve_args=(
            *("--threads", "1", "--max-body-bytes", str(MAX_BODY_BYTES)),
            *("--access-log", "--access-log-format", request.param),
        ),
        site=Site(request_buffering=False, response_buffering=False),
        nginx_directives=_WITH_USER,
    )
    yield Logged(stack, request.param)
    assert_no_complaints(stack)


FAILURE = b"The application failed. The server's log says why.\n"


@pytest.mark.parametrize(
    ("name", "method", "status", "size", "is_complete"),
    [
        ("twelve", "GET", 200, 12, True),
        ("twelve", "HEAD", 200, 0, True),
        ("twelve", "DELETE", 200, 12, True),
        ("pieces", "GET", 201, 1_000_000, True),
        ("pieces", "HEAD", 201, 0, True),
        ("file", "GET", 200, Path(accessed.__file__).stat().st_size, True),
        ("file", "HEAD", 200, 0, True),
        ("memory", "GET", 200, 100_000, True),
        ("nowhere", "GET", 404, 7, True),
        ("nothing", "GET", 204, 0, True),
        ("cut", "GET", 200, 5, True),
        ("fails", "GET", 500, len(FAILURE), True),
        ("fails", "HEAD", 500, 0, True),
        ("fails-midway", "GET", 200, 14, False),
        ("fails-in-close", "GET", 200, 12, True),
    ],
)
def test_request_has_its_line(
    logged: Logged, name: str, method: str, status: int, size: int, is_complete: bool
):
    path = f"/{name}/{next(numbers)}"
    fetch(
        f"{logged.stack.url}{path}?token=secret",
        method=method,
        headers=[
            ("Referer", "https://example.org/a?token=secret"),
            ("User-Agent", "agent/1.0 (x)"),
        ],
    )
    line = logged.of(path)
    assert (line.method, line.status, line.bytes) == (method, status, size)
    assert line.is_complete is is_complete
    assert (line.client, line.user) == ("127.0.0.1", None)
    assert (line.referer, line.agent) == ("https://example.org/a", "agent/1.0 (x)")
    assert line.worker == logged.stack.pid
    assert "secret" not in logged.stack.bridge_log


def test_client_that_leaves_before_the_answer(logged: Logged):
    path = f"/silent/{next(numbers)}"
    with RawHttp(logged.stack.url + path, method="POST", content_length=10) as leaving:
        leaving.send(b"1")
        logged.stack.wait_for_event(event_with(line=path))
    line = logged.of(path)
    assert (line.status, line.bytes, line.is_complete) == (499, 0, False)


def test_client_that_leaves_during_the_answer(logged: Logged):
    path = f"/endless/{next(numbers)}"
    with RawHttp(logged.stack.url + path) as leaving:
        leaving.read_until(b"200 OK")
    line = logged.of(path)
    assert (line.status, line.is_complete) == (200, False)
    assert line.bytes > 0


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [("twelve", 413, "body_over_limit"), ("odd-length", 400, "invalid_content_length")],
)
def test_request_that_is_refused(logged: Logged, name: str, status: int, reason: str):
    path = f"/{name}/{next(numbers)}"
    before = len(logged.stack.log_events())
    answer = fetch(
        f"{logged.stack.url}{path}?token=secret", method="POST", body=bytes(MAX_BODY_BYTES + 1)
    )
    assert answer.status == status
    line = logged.of(path)
    assert (line.method, line.status, line.bytes) == ("POST", status, len(answer.body))
    assert (line.client, line.is_complete, line.application_seconds) == ("127.0.0.1", True, 0.0)
    event = logged.stack.wait_for_event(event_with(event="refused"), since=before)
    assert (event["method"], event["path"], event["reason"]) == ("POST", path, reason)
    assert "secret" not in logged.stack.bridge_log


@pytest.mark.parametrize("form", ["combined", "json"])
def test_a_request_below_no_mount_is_in_the_access_log(socket_kind: str, tmp_path: Path, form: str):
    bind = "127.0.0.1:0" if socket_kind == "tcp" else f"unix:{tmp_path}/s"
    with (
        BridgeProcess(
            *mount("/served=accessed:application"),
            *("--app-dir", str(REPOSITORY), "--bind", bind, "--threads", "1"),
            *("--access-log", "--access-log-format", form),
        ) as bridge,
        PrivateNginx(Site(upstreams=(bridge.address,))) as nginx,
    ):
        answer = fetch(f"{nginx.url}/elsewhere?token=secret")
        assert fetch(f"{nginx.url}/served/twelve").status == 200
        bridge.stop()
        missing, _ = (
            line for text in bridge.log.text().splitlines() for line in _parse(text, form)
        )
    assert (missing.path, missing.status, missing.bytes) == ("/elsewhere", 404, len(answer.body))
    assert missing.application_seconds == 0.0
    assert "secret" not in bridge.log.text()


def test_times_are_those_of_the_queue_and_of_the_application(logged: Logged):
    """Two at once, and one thread, in which each sleeps for 0.2 s."""
    paths = [f"/slow/{next(numbers)}" for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fetch, [logged.stack.url + path for path in paths]))
    first, second = sorted((logged.of(path) for path in paths), key=lambda it: it.queue_seconds)

    for line in (first, second):
        assert 0.19 < line.application_seconds < PATIENCE_SECONDS
        assert line.total_seconds == pytest.approx(
            line.queue_seconds + line.application_seconds, abs=0.00001
        )
    # The second one waited for about as long as the first one took, less what lay between them.
    assert first.queue_seconds < 0.19
    assert 0.05 < second.queue_seconds < PATIENCE_SECONDS


# What a client may send through Nginx that means something in a log, or on a terminal.
FORGED = '" 200 5 "-" "-" queue=0 app=0 total=0 worker=1'
ODD = [
    FORGED,
    '{"event": "access", "path": "/forged"}',
    "\x1b[2J\x1b]0;title\x07",
    "back\\slash\\",
    'quote"',
    "caf\xe9 \x85\xa0",
]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("header", ["Referer", "User-Agent"])
def test_header_stays_in_its_field(logged: Logged, header: str, odd: str):
    path = f"/twelve/{next(numbers)}"
    other = {"Referer": "User-Agent", "User-Agent": "Referer"}[header]
    with_odd = [(header, odd.encode("latin-1")), (other, b"plain")]
    logged.settle()
    before = len(logged.lines())
    fetch(logged.stack.url + path, headers=with_odd)  # type: ignore[arg-type] # bytes are what http.client sends
    line = logged.of(path)

    assert (line.status, line.bytes) == (200, 12)
    seen = {"Referer": line.referer, "User-Agent": line.agent}
    assert seen[other] == "plain"
    # `lines` has looked at each: nothing but this one was added.
    assert len(logged.lines()) == before + 1
    added = logged.stack.bridge_log[-1000:]
    assert "\x1b" not in added
    assert "\x07" not in added


@pytest.mark.parametrize(
    ("sent", "escaped", "decoded"),
    [
        ('/"quote"', r"/\"quote\"", '/"quote"'),
        ("/back\\slash", "/back\\\\slash", "/back\\slash"),
        ("/line%0Abreak%0D", "/line%0Abreak%0D", "/line\nbreak\r"),
        ("/%1B[2J", "/%1B[2J", "/\x1b[2J"),
        ("/caf%C3%A9", "/caf%C3%A9", "/caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("/%22%20200%20", "/%22%20200%20", '/" 200 '),
    ],
)
def test_path_stays_in_its_field(
    logged: Logged, request: pytest.FixtureRequest, sent: str, escaped: str, decoded: str
):
    number = next(numbers)
    assert fetch(f"{logged.stack.url}{sent}/{number}").status == 404
    # Apache's form has what the client sent, the other one what it means.
    form = request.node.callspec.params["logged"]
    line = logged.of(f"{escaped if form == 'combined' else decoded}/{number}")
    assert (line.status, line.bytes) == (404, 7)


@pytest.mark.parametrize(
    "name", ["ada", 'ada" 200 5 "-" "-"', "ada\n127.0.0.1 - root", "ada lovelace", "\x1b[2J", "-"]
)
def test_name_that_a_client_gives_itself_stays_in_its_field(logged: Logged, name: str):
    number = next(numbers)
    credentials = base64.b64encode(f"{name}:password".encode()).decode()
    logged.settle()
    before = len(logged.lines())
    fetch(
        f"{logged.stack.url}/user/twelve/{number}",
        headers=[("Authorization", f"Basic {credentials}")],
    )
    line = logged.of(f"/user/twelve/{number}")
    assert (line.client, line.method, line.status) == ("127.0.0.1", "GET", 200)
    assert len(logged.lines()) == before + 1
    assert credentials not in logged.stack.bridge_log
    if name == "ada":
        assert line.user == "ada"


def test_without_the_option_there_is_none(serve: Callable[..., LocalStack]):
    stack = serve("accessed:application", serve_args=("--threads", "1"))
    for path in ("/twelve", "/nowhere", "/fails", "/settled/last"):
        fetch(stack.url + path)
    stack.wait_for_event(event_with(line="/settled/last"))
    assert all(_is_event(text) for text in stack.bridge_log.splitlines())


def _is_event(text: str) -> bool:
    return bool(text.startswith("{") and json.loads(text)["event"] != "access")


# Several workers.

_WORKERS, _THREADS = 3, 4
_LISTENING = '"event": "listening"'


@contextlib.contextmanager
def several_workers(
    directory: Path, stderr: int, is_listening: Callable[[], bool], *arguments: str
) -> Iterator[tuple[str, int]]:
    """Serve behind an Nginx, whose URL is given with the supervisor's process id."""
    address = f"unix:{directory}/s"
    with subprocess.Popen(
        (
            *(sys.executable, "-m", "uwsgibridge", "serve", f"{APPS}.accessed:application"),
            *("--app-dir", str(REPOSITORY), "--bind", address, "--log-format", "json"),
            *("--workers", str(_WORKERS), "--threads", str(_THREADS), "--access-log", *arguments),
            *("--accept-margin", "0"),  # so that none of them takes what another one could
        ),
        stderr=stderr,
    ) as process:
        try:
            with PrivateNginx(Site(upstreams=(address,))) as nginx:
                _wait_until(is_listening)
                yield nginx.url, process.pid
        finally:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline
        sleep(0.01)


def _fetch_long(url: str) -> int:
    """Ask with what takes much more than a line may have, after it is escaped; every other time."""
    name = int(url.rpartition("/")[2])
    long = [("User-Agent", '"' * 3000), ("Referer", "\\" * 3000 + "?token=secret")]
    return fetch(f"{url}?token=secret", headers=long if name % 2 else ()).status


def _slowly(reader: int) -> Iterator[bytes]:
    """Give the lines of a pipe, less than a line at a time."""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        rest = b""
        while piece := pipe.read(500):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
        if rest:
            yield rest


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="the pipe can't be made small")
@pytest.mark.parametrize("form", ["combined", "json"])
def test_lines_of_several_workers_are_whole_on_a_pipe_that_is_full(tmp_path: Path, form: str):
    count = 300
    reader, writer = os.pipe()
    # One page: nearly every line has to wait for the reader, in every thread of every worker.
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    log = LogStream(_slowly(reader), source="the bridge")
    try:
        with several_workers(
            tmp_path,
            writer,
            lambda: _LISTENING in log.text(),
            *("--access-log-format", form),
        ) as (url, _):
            urls = [f"{url}/twelve/{number}" for number in range(count)]
            with ThreadPoolExecutor(_WORKERS * _THREADS) as pool:
                assert Counter(pool.map(_fetch_long, urls)) == {200: count}
    finally:
        os.close(writer)
    assert log.wait_ended(PATIENCE_SECONDS)

    texts = log.text().splitlines()
    found = [line for text in texts for line in _parse(text, form)]
    paths = Counter(line.path for line in found)
    assert paths == {f"/twelve/{number}": 1 for number in range(count)}
    assert len({line.worker for line in found}) == _WORKERS
    assert max(map(len, texts)) < 4096
    assert "secret" not in log.text()
    assert sum((line.agent or "").endswith("...") for line in found) == count // 2


@pytest.mark.parametrize("form", ["combined", "json"])
def test_no_line_is_lost_when_the_log_is_rotated(tmp_path: Path, form: str):
    count, rotations = 300, 5
    path = tmp_path / "bridge.log"
    with several_workers(
        tmp_path,
        subprocess.DEVNULL,
        lambda: path.exists() and _LISTENING in path.read_text(),
        *("--access-log-format", form, "--log-file", str(path)),
    ) as (url, pid):
        urls = [f"{url}/twelve/{number}" for number in range(count)]
        with ThreadPoolExecutor(_WORKERS * _THREADS) as pool:
            statuses = [pool.submit(_fetch_long, it) for it in urls]
            for number in range(rotations):
                statuses[(number + 1) * count // (rotations + 2)].result(PATIENCE_SECONDS)
                path.rename(f"{path}.{number}")
                os.kill(pid, signal.SIGUSR1)
                _wait_until(path.exists)
            assert all(it.result() == 200 for it in statuses)

    files = [Path(f"{path}.{number}") for number in range(rotations)] + [path]
    each = [
        [line for text in file.read_text().splitlines() for line in _parse(text, form)]
        for file in files
    ]
    assert sum(map(bool, each)) > 2
    paths = Counter(line.path for lines in each for line in lines)
    assert paths == {f"/twelve/{number}": 1 for number in range(count)}
