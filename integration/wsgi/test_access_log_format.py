"""The access log in a format of the operator's, in a file of its own, and of some requests alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from integration.wsgi.conftest import APPS, REPOSITORY
from integration.wsgi.fetching import PATIENCE_SECONDS, fetch
from integration.wsgi.real_uwsgi import needs_uwsgi, real_uwsgi, wait_until
from uwsgibridge.frontend.private import PrivateNginx
from uwsgibridge.testing import Site

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

MARK = "LINE|"

WAYS = pytest.mark.parametrize("pure", ["0", "1"], ids=["with-c", "python-alone"])


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that other users may enter."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


def lines_in(text: str) -> list[str]:
    return [it.removeprefix(MARK) for it in text.splitlines() if it.startswith(MARK)]


def wait_for_lines(read: Callable[[], str], count: int) -> list[str]:
    deadline = monotonic() + PATIENCE_SECONDS
    while len(lines := lines_in(read())) < count:
        assert monotonic() < deadline, lines
        sleep(0.01)
    return lines


# --- beside the real uWSGI --------------------------------------------------------------------------

UWSGIS = (
    MARK
    + '%(addr) %(user) "%(method) %(uri) %(proto)" %(status) %(rsize) %(hsize) %(size) %(headers) %(cl) %(host) '
    '"%(referer)" "%(uagent)" %(var.HTTP_X_ID) %(modifier1) %(modifier2) %(core) %(werr) %(vars) %(pktsize)'
)


def ask_all(url: str) -> None:
    own = [("Host", "example.org"), ("User-Agent", "agent/1.0"), ("X-Id", "7")]
    referer = ("Referer", "https://example.org/?from=here")
    fetch(f"{url}/1?a=b&c=%20", headers=own)
    fetch(f"{url}/2", headers=[*own, referer])
    fetch(f"{url}/3", method="POST", body=b"12345", headers=own)
    fetch(f"{url}/4", method="DELETE", headers=[("Host", "example.org")])


@needs_uwsgi
@WAYS
def test_variables_say_what_they_say_in_uwsgi(
    serve: Callable[..., LocalStack], directory: Path, pure: str
):
    stack = serve(
        "behind_files:wsgi",
        environment={"UWSGIBRIDGE_PURE": pure},
        serve_args=("--access-log", "--access-log-format", UWSGIS, "--threads", "1"),
    )
    ask_all(stack.url)
    ours = wait_for_lines(lambda: stack.bridge_log, 4)
    with real_uwsgi(directory, "behind_files:wsgi", "--log-format", UWSGIS) as (url, log):
        ask_all(url)
        theirs = wait_for_lines(log, 4)
    for our, their in zip(ours, theirs, strict=True):
        *our_words, our_vars, our_bytes = our.split(" ")
        *their_words, their_vars, their_bytes = their.split(" ")
        assert our_words == their_words
        # Vars that no application may trust are removed, and SCRIPT_NAME is added.
        assert abs(int(our_vars) - int(their_vars)) <= 4
        assert abs(int(our_bytes) - int(their_bytes)) <= 200


# --- gunicorn's variables, and both ways ------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("app", ["accessed:application", "behind_files:asgi"])
def test_format_of_gunicorn(serve: Callable[..., LocalStack], app: str, pure: str):
    stack = serve(
        app,
        environment={"UWSGIBRIDGE_PURE": pure},
        serve_args=(
            *("--access-log", "--access-log-format"),
            MARK
            + '%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s "%(a)s" %({x-id}i)s %({Content-Type}o)s %({server_port}e)s %(L)s',
        ),
    )
    fetch(
        f"{stack.url}/none?x=1",
        headers=[("User-Agent", 'a"b\\c\xe9'), ("X-Id", "7"), ("Authorization", "Basic ZXZlOng=")],
    )
    [line] = wait_for_lines(lambda: stack.bridge_log, 1)
    *words, seconds = line.split(" ")
    size, kind = ("7", "text/plain") if app.startswith("accessed") else ("45", "application/json")
    port = stack.url.rpartition(":")[2].strip("/")
    assert " ".join(words) == (
        f'127.0.0.1 - eve "GET /none?x=1 HTTP/1.1" 404 {size} "a\\"b\\\\c\\xe9" 7 {kind} {port}'
    )
    assert 0 < float(seconds) < PATIENCE_SECONDS


@WAYS
@pytest.mark.parametrize("app", ["accessed:application", "behind_files:asgi"])
def test_filters(serve: Callable[..., LocalStack], app: str, pure: str):
    stack = serve(
        app,
        environment={"UWSGIBRIDGE_PURE": pure},
        serve_args=(
            *("--access-log", "--access-log-format", MARK + "%(uri) %(status)", "--threads", "1"),
            *("--access-log-status", "5xx", "--access-log-status", "404"),
            *("--access-log-slow-seconds", "0.2", "--max-body-bytes", "10"),
        ),
    )
    expected = ["/none 404"]
    fetch(f"{stack.url}/none")
    if app.startswith("accessed"):
        for name in ("twelve", "fails", "slow", "pieces", "none"):
            fetch(f"{stack.url}/{name}")
        expected += ["/fails 500", "/slow 200", "/none 404"]
    else:
        fetch(f"{stack.url}/large", method="POST", body=bytes(11))  # 413
        fetch(f"{stack.url}/last")
        expected += ["/last 404"]
    assert wait_for_lines(lambda: stack.bridge_log, len(expected)) == expected


# --- the file ---------------------------------------------------------------------------------------

_WORKERS, _THREADS = 3, 4


@contextlib.contextmanager
def several_workers(directory: Path, *arguments: str) -> Iterator[tuple[str, int, Path]]:
    """Serve behind an Nginx: its URL, the supervisor's process id, and the other log."""
    address, log = f"unix:{directory}/s", directory / "other.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            (
                *(sys.executable, "-m", "uwsgibridge", "serve", f"{APPS}.accessed:application"),
                *("--app-dir", str(REPOSITORY), "--bind", address, "--log-format", "json"),
                *(
                    "--workers",
                    str(_WORKERS),
                    "--threads",
                    str(_THREADS),
                    "--access-log",
                    *arguments,
                ),
            ),
            stderr=out,
        ) as process,
    ):
        try:
            with PrivateNginx(Site(upstreams=(address,))) as nginx:
                wait_until(lambda: '"event": "listening"' in log.read_text())
                yield nginx.url, process.pid, log
        finally:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0


def test_file_of_its_own_is_opened_anew(directory: Path):
    count, rotations = 300, 5
    path = directory / "access.log"
    arguments = ("--access-log-file", str(path), "--access-log-format", MARK + "%(uri)")
    with several_workers(directory, *arguments) as (url, pid, log):
        urls = [f"{url}/twelve/{number}" for number in range(count)]
        with ThreadPoolExecutor(_WORKERS * _THREADS) as pool:
            statuses = [pool.submit(lambda it: fetch(it).status, it) for it in urls]
            for number in range(rotations):
                statuses[(number + 1) * count // (rotations + 2)].result(PATIENCE_SECONDS)
                path.rename(f"{path}.{number}")
                os.kill(pid, signal.SIGUSR1)
                wait_until(path.exists)
            assert all(it.result() == 200 for it in statuses)
    files = [Path(f"{path}.{number}") for number in range(rotations)] + [path]
    each = [lines_in(it.read_text()) for it in files]
    assert sum(map(bool, each)) > 2
    assert Counter(line for lines in each for line in lines) == {
        f"/twelve/{number}": 1 for number in range(count)
    }
    assert MARK not in log.read_text()
    assert "log file opened anew" in log.read_text()
    assert path.stat().st_mode & 0o777 == 0o640


def test_file_that_can_not_be_opened_is_one_clear_error(directory: Path):
    finished = subprocess.run(
        (
            *(sys.executable, "-m", "uwsgibridge", "serve", f"{APPS}.accessed:application"),
            *(
                "--access-log",
                "--access-log-file",
                f"{directory}/none/access.log",
                "--workers",
                "1",
            ),
        ),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("Error: --access-log-file ")
    assert finished.stderr.count("\n") == 1
