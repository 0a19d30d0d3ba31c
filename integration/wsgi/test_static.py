"""`--static` behind a real Nginx: files in the place of the answers of a WSGI and of an ASGI application."""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from integration.wsgi.conftest import PATTERN
from integration.wsgi.fetching import fetch
from integration.wsgi.raw_http import RawHttp
from integration.wsgi.real_uwsgi import needs_uwsgi, real_uwsgi
from uwsgibridge.frontend.options import StaticDirectory
from uwsgibridge.testing import Site, event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

MIB = 1024 * 1024
NAMES = [
    "plain.txt",
    "with space.txt",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{SNOWMAN}.txt",
    "100% +plus&and?what#hash.txt",
    "deeper/than/this.txt",
    "a;b=c,d.txt",
    "quo\"te'.txt",
    "back\\slash.txt",
    "..dots..txt",
    "%2e%2e",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is served; beside it lies a file that must not get out."""
    directory = tmp_path_factory.mktemp("served")
    site = directory / "site"
    site.mkdir()
    (site / "pattern.bin").write_bytes(PATTERN)
    (site / "main.css").write_text("body {}")
    (directory / "favicon.ico").write_bytes(b"icon")
    (directory / "secret").write_text("secret")
    (directory / "site-beside").mkdir()
    (directory / "site-beside" / "secret").write_text("secret")
    (site / "out").symlink_to("../secret")
    (site / "up").symlink_to("..")
    for name in NAMES:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(f"the content of {name}")
    return site


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def served(
    serve: Callable[..., LocalStack], site: Path, request: pytest.FixtureRequest
) -> Iterator[LocalStack]:
    stack = serve(
        f"behind_files:{request.param}",
        serve_args=(
            *("--static", f"/static={site}", "--static", f"/favicon.ico={site.parent}/favicon.ico"),
            *(
                "--workers",
                "1",
                "--access-log",
                "--access-log-format",
                "json",
                "--static-threads",
                "1",
            ),
        ),
        site=Site(response_buffering=False),
    )
    yield stack
    worse = [it for it in stack.log_events() if it.get("level") in {"warning", "error"}]
    assert worse == []


@pytest.mark.parametrize("name", NAMES)
def test_file_is_served(served: LocalStack, name: str):
    answer = fetch(f"{served.url}/static/{quote(name)}")
    assert (answer.seen, answer.body.decode()) == (200, f"the content of {name}")


def test_file_is_told_like_nginx_tells_it(served: LocalStack):
    answer = fetch(f"{served.url}/static/main.css?version=1")
    assert (answer.seen, answer.body) == (200, b"body {}")
    assert answer.headers["Content-Type"] == "text/css"
    assert answer.headers["Content-Length"] == "7"
    assert answer.headers["ETag"].startswith('"')
    assert answer.headers["Accept-Ranges"] == "bytes"
    head = fetch(f"{served.url}/static/main.css", method="HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "7")


def test_file_in_place_of_a_directory(served: LocalStack):
    assert fetch(f"{served.url}/favicon.ico").body == b"icon"
    assert fetch(f"{served.url}/favicon.ico/x").status == 404


def test_large_file_arrives_whole(served: LocalStack, site: Path):
    path = site / "large"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(64):
            piece = number.to_bytes(8, "big") * (MIB // 8)
            file.write(piece)
            digest.update(piece)
    answer = fetch(f"{served.url}/static/large")
    assert hashlib.sha256(answer.body).digest() == digest.digest()
    path.unlink()


def test_conditions_and_ranges(served: LocalStack):
    url = f"{served.url}/static/pattern.bin"
    whole = fetch(url)
    assert whole.body == PATTERN
    etag, date = whole.headers["ETag"], whole.headers["Last-Modified"]
    for header in (("If-None-Match", etag), ("If-Modified-Since", date)):
        same = fetch(url, headers=[header])
        assert (same.status, same.body) == (304, b"")
        assert same.headers["ETag"] == etag
    part = fetch(url, headers=[("Range", "bytes=1000-2999"), ("If-Range", etag)])
    assert (part.seen, part.body) == (206, PATTERN[1000:3000])
    assert part.headers["Content-Range"] == f"bytes 1000-2999/{len(PATTERN)}"
    other = fetch(url, headers=[("Range", "bytes=1000-2999"), ("If-Range", '"other"')])
    assert (other.seen, other.body) == (200, PATTERN)
    beyond = fetch(url, headers=[("Range", f"bytes={len(PATTERN)}-")])
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(PATTERN)}")
    assert fetch(url, headers=[("If-Match", '"other"')]).status == 412


@pytest.mark.parametrize(
    "target",
    [
        "/static",
        "/static/",
        "/static/none.css",
        "/static/deeper",
        "/static/main.css/",
        "/staticmain.css",
        "/static-beside/secret",
        "/static/out",
        "/static/up/secret",
        "/static/..%2fsecret",
        "/static/%2e%2e/secret",
        "/static/..%5csecret",
        "/static/deeper/..%2f..%2fsecret",
        "/static/%252e%252e/secret",
        "/static/../secret",
        "/static//secret",
    ],
)
def test_what_is_no_file_there_is_the_applications(served: LocalStack, target: str):
    answer = fetch(served.url + target)
    assert answer.status == 404
    assert b"secret" not in answer.body.replace(b"/secret", b"").replace(b"..\\\\secret", b"")
    assert answer.json()["method"] == "GET"


def test_nul_is_refused(served: LocalStack):
    """Nginx refuses it; `tests/hosts/static` sends it to the bridge itself."""
    assert fetch(f"{served.url}/static/main.css%00.png").status == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("size", [0, 300_000])
def test_another_method_is_the_applications(served: LocalStack, method: str, size: int):
    answer = fetch(f"{served.url}/static/main.css", method=method, body=bytes(size))
    assert answer.json() == {"method": method, "path": "/static/main.css", "body": size}


@pytest.mark.parametrize("name", ["main.css", "none.css"])
def test_body_of_a_get_is_left_to_who_answers(served: LocalStack, name: str):
    answer = fetch(f"{served.url}/static/{name}", body=bytes(100_000))
    if name == "main.css":
        assert (answer.seen, answer.body) == (200, b"body {}")
    else:
        assert answer.json()["body"] == 100_000


def test_slow_client_holds_up_nobody(served: LocalStack, site: Path):
    """There is one thread for files."""
    with (site / "huge").open("wb") as file:
        file.truncate(64 * MIB)
    with RawHttp(f"{served.url}/static/huge", receive_buffer_bytes=4096) as slow:
        slow.read_until(b"200 OK")
        for _ in range(5):
            assert fetch(f"{served.url}/static/main.css").body == b"body {}"
            assert fetch(f"{served.url}/static/none").status == 404
    (site / "huge").unlink()


def test_files_are_in_the_access_log_and_counted(served: LocalStack):
    before = len(served.log_events())
    assert fetch(f"{served.url}/static/main.css?log=1").status == 200
    # Lines of the tests before may come late.
    served.wait_for_event(
        event_with(event="access", path="/static/main.css", status=200, bytes=7, complete=True),
        since=before,
    )


@needs_uwsgi
def test_what_is_served_and_what_is_the_applications_is_as_with_uwsgi(
    served: LocalStack, site: Path
):
    """But for half words, of which `findings/uwsgi-static-map-takes-half-a-word.sh` tells."""
    asked: list[tuple[str, str, list[tuple[str, str]]]] = [
        (method, target, [])
        for target in (
            *("/static/main.css", "/static/pattern.bin", "/static/none", "/static", "/static/"),
            *("/static/deeper", "/static/deeper/than/this.txt", "/static/out", "/static/up/secret"),
            *("/static/..%2fsecret", "/favicon.ico", "/other", "/static/with%20space.txt"),
        )
        for method in ("GET", "HEAD", "POST")
    ]
    whole = fetch(f"{served.url}/static/main.css")
    asked.append(
        ("GET", "/static/main.css", [("If-Modified-Since", whole.headers["Last-Modified"])])
    )
    asked.append(
        ("GET", "/static/main.css", [("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")])
    )

    def answers(url: str) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        for method, target, headers in asked:
            answer = fetch(url + target, method=method, headers=headers)
            # uWSGI gives the application's own answers no length.
            names = ("Content-Length", "Last-Modified") if answer.status == 200 else ()
            kept = [answer.headers[name] for name in names]
            found.append((method, target, answer.seen, kept, answer.body))
        return found

    with tempfile.TemporaryDirectory() as directory:
        maps = (
            "--static-map",
            f"/static={site}",
            "--static-map",
            f"/favicon.ico={site.parent}/favicon.ico",
        )
        with real_uwsgi(Path(directory), "behind_files:wsgi", *maps) as (url, _log):
            theirs = answers(url)
    ours = answers(served.url)
    for our, their in zip(ours, theirs, strict=True):
        assert our == their


def test_offload_leaves_the_file_to_nginx(serve: Callable[..., LocalStack], site: Path):
    stack = serve(
        "behind_files:wsgi",
        serve_args=("--static", f"/static={site}", "--offload", f"/protected={site.parent}"),
        site=Site(offload=(StaticDirectory("/protected/", str(site.parent)),)),
    )
    answer = fetch(f"{stack.url}/static/pattern.bin")
    assert answer.body == PATTERN
    # Nginx's own form of a tag.
    assert (
        answer.headers["ETag"]
        == f'"{int((site / "pattern.bin").stat().st_mtime):x}-{len(PATTERN):x}"'
    )
    part = fetch(f"{stack.url}/static/pattern.bin", headers=[("Range", "bytes=5-9")])
    assert (part.status, part.body) == (206, PATTERN[5:10])
    assert fetch(f"{stack.url}/static/{quote(NAMES[2])}").seen == 200
    assert fetch(f"{stack.url}/static/none").json()["path"] == "/static/none"
    assert fetch(f"{stack.url}/static/out").json()["path"] == "/static/out"


def test_reload_loses_no_file(serve: Callable[..., LocalStack], site: Path):
    stack = serve("behind_files:wsgi", serve_args=("--static", f"/static={site}", "--workers", "2"))
    with RawHttp(f"{stack.url}/static/pattern.bin", receive_buffer_bytes=4096) as slow:
        head = slow.read_until(b"\r\n\r\n")
        os.kill(stack.pid, signal.SIGHUP)
        while not any(it["event"] == "reloaded" for it in stack.log_events()):
            assert fetch(f"{stack.url}/static/main.css").body == b"body {}"
        body = head.partition(b"\r\n\r\n")[2] + slow.read_to_end()
    assert body == PATTERN
