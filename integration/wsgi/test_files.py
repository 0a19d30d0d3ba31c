"""Files as answers: sent by the kernel, read block by block, or left to Nginx."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from integration.wsgi.conftest import PATTERN, assert_no_complaints, mount
from integration.wsgi.fetching import BROKEN, PATIENCE_SECONDS, Fetched, fetch
from uwsgibridge.frontend.options import StaticDirectory
from uwsgibridge.testing import Site, event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

MIB = 1024 * 1024

# How much of a file is sent together with the head.
FIRST_PIECE_BYTES = 4096


@pytest.fixture(scope="session")
def directory(exercise_directory: Path) -> Path:
    """The mapped directory; beside it lies a file that must not get out."""
    directory = exercise_directory / "files"
    (directory / "pattern").write_bytes(PATTERN)
    (directory / "small").write_bytes(PATTERN[:1000])
    (directory / "empty").write_bytes(b"")
    (directory / "pattern.gz").write_bytes(gzip.compress(PATTERN, 1))
    (exercise_directory / "secret").write_text("secret")
    (exercise_directory / "files-beside").mkdir()
    (exercise_directory / "files-beside" / "secret").write_text("secret")
    return directory


@pytest.fixture(scope="module")
def files(
    serve: Callable[..., LocalStack], directory: Path, exercise_directory: Path
) -> Iterator[LocalStack]:
    """One thread, so that a request has been closed when the next one is answered."""
    stack = serve(
        "files:application",
        environment={"EXERCISE_DIRECTORY": str(exercise_directory)},
        serve_args=(
            "--threads",
            "1",
            "--offload",
            f"/protected={directory}",
            *mount("/flask=files:flask"),
        ),
        site=Site(offload=(StaticDirectory("/protected/", str(directory)),)),
    )
    yield stack
    assert_no_complaints(stack)


@pytest.fixture
def wrapped(files: LocalStack) -> Callable[..., tuple[Fetched, int]]:
    """Ask for a wrapped file; the answer, and how much of it the kernel has sent."""

    def wrapped(*, method: str = "GET", **query: Any) -> tuple[Fetched, int]:
        before = fetch(f"{files.url}/state").json()
        answer = fetch(f"{files.url}/wrapped?{urlencode(query)}", method=method)
        after = fetch(f"{files.url}/state").json()
        if query.get("kind") != "only-reads":
            assert after["closed"] == [query["name"]], "closed once, whatever happened"
        return answer, after["sendfile_bytes"] - before["sendfile_bytes"]

    return wrapped


# --- wsgi.file_wrapper ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "unbuffered", "temporary", "named-temporary"])
def test_regular_file_is_sent_by_the_kernel(wrapped, kind: str):
    answer, by_kernel = wrapped(name="pattern", kind=kind)
    assert answer.body == PATTERN
    # Its length is known, though the application has not said it.
    assert answer.headers["Content-Length"] == str(len(PATTERN))
    # What a temporary file has in its buffer is written as it is sent.
    assert by_kernel == pytest.approx(len(PATTERN) - FIRST_PIECE_BYTES, abs=100)


@pytest.mark.parametrize("kind", ["memory", "pipe", "only-reads"])
def test_anything_else_is_read(wrapped, kind: str):
    answer, by_kernel = wrapped(name="pattern", kind=kind)
    assert (answer.seen, by_kernel) == (200, 0)
    assert answer.body == PATTERN


@pytest.mark.parametrize("kind", ["gunzipped", "buffered-gunzipped"])
def test_what_has_a_descriptor_of_other_bytes_is_read(wrapped, kind: str):
    answer, by_kernel = wrapped(name="pattern.gz", kind=kind)
    assert (answer.seen, by_kernel) == (200, 0)
    assert answer.body == PATTERN


@pytest.mark.skipif(sys.platform != "linux", reason="of the kernel of Linux")
@pytest.mark.parametrize("name", ["/proc/cpuinfo", "/sys/class/net/lo/mtu"])
def test_file_of_the_kernel_arrives_whole(wrapped, name: str):
    """One says that it is empty, the other that it has a page."""
    if not Path(name).exists():
        pytest.skip("not mounted here")
    content = Path(name).read_bytes()
    assert Path(name).stat().st_size != len(content)
    answer, _ = wrapped(name=name)
    assert answer.seen == 200
    # The clock of a processor may have changed meanwhile.
    assert answer.body.splitlines()[:1] == content.splitlines()[:1]
    assert len(answer.body) == pytest.approx(len(content), rel=0.01)


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_wrapper_of_a_class_of_its_own_is_iterated_over(wrapped, directory: Path, kind: str):
    """What it gives need not be what is in the file."""
    (directory / "letters").write_bytes(b"abc" * 50_000)
    answer, by_kernel = wrapped(name="letters", kind=kind, upper=1)
    assert (answer.seen, answer.body, by_kernel) == (200, b"ABC" * 50_000, 0)


@pytest.mark.parametrize("name", ["small", "empty"])
def test_small_file_leaves_with_its_head(wrapped, directory: Path, name: str):
    answer, by_kernel = wrapped(name=name)
    assert (answer.seen, by_kernel) == (200, 0)
    assert answer.body == (directory / name).read_bytes()
    assert answer.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize("kind", ["file", "unbuffered", "memory"])
@pytest.mark.parametrize("offset", [1, 70_000, len(PATTERN) - 1, len(PATTERN), len(PATTERN) + 9])
def test_file_is_sent_from_where_it_stands(wrapped, kind: str, offset: int):
    answer, _ = wrapped(name="pattern", kind=kind, offset=offset)
    assert (answer.seen, answer.body) == (200, PATTERN[offset:])


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 10), (5, 65_536), (1000, 200_000), (100, len(PATTERN) - 100)]
)
def test_length_of_the_application_is_kept(wrapped, offset: int, length: int):
    """How a range of a file is sent."""
    answer, by_kernel = wrapped(name="pattern", offset=offset, length=length)
    assert (answer.seen, answer.body) == (200, PATTERN[offset : offset + length])
    assert by_kernel == max(0, length - FIRST_PIECE_BYTES)


@pytest.mark.parametrize("name", ["small", "pattern"])
def test_file_shorter_than_its_length_is_seen(files: LocalStack, wrapped, name: str):
    before = len(files.log_events())
    answer, _ = wrapped(name=name, length=len(PATTERN) + 1)
    assert answer.seen == BROKEN
    event = files.wait_for_event(event_with(event="application broke a rule"), since=before)
    assert f"its Content-Length is {len(PATTERN) + 1}" in str(event["detail"])
    assert event["outcome"] == "connection broken"


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_what_was_written_before_comes_first(wrapped, kind: str):
    answer, _ = wrapped(name="pattern", kind=kind, write="written first|")
    assert (answer.seen, answer.body) == (200, b"written first|" + PATTERN)


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_head_sends_nothing_of_it(wrapped, kind: str):
    answer, by_kernel = wrapped(name="pattern", kind=kind, method="HEAD", length=len(PATTERN))
    assert (answer.seen, answer.body, by_kernel) == (200, b"", 0)
    assert answer.headers["Content-Length"] == str(len(PATTERN))


@pytest.mark.parametrize("name", ["small", "pattern"])
def test_head_of_a_file_has_the_length_that_get_has(wrapped, directory: Path, name: str):
    answer, by_kernel = wrapped(name=name, method="HEAD")
    assert (answer.seen, answer.body, by_kernel) == (200, b"", 0)
    assert answer.headers["Content-Length"] == str((directory / name).stat().st_size)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answer_without_a_body_sends_nothing_of_it(wrapped, status: str):
    answer, by_kernel = wrapped(name="pattern", status=status)
    assert (answer.seen, answer.body, by_kernel) == (int(status[:3]), b"", 0)


def test_large_file_arrives_whole(wrapped, directory: Path):
    path = directory / "large"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(64):
            piece = number.to_bytes(8, "big") * (MIB // 8)
            file.write(piece)
            digest.update(piece)

    answer, by_kernel = wrapped(name="large")

    assert hashlib.sha256(answer.body).digest() == digest.digest()
    assert by_kernel == 64 * MIB - FIRST_PIECE_BYTES
    path.unlink()


def open_stream(url: str) -> socket.socket:
    """Ask, and take only the beginning of the answer's head."""
    where = urlsplit(url)
    connection = socket.socket()
    connection.settimeout(PATIENCE_SECONDS)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((where.hostname, where.port))
    target = f"{where.path}?{where.query}"
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert connection.recv(15) == b"HTTP/1.1 200 OK"
    return connection


def read_to_end(connection: socket.socket) -> int:
    count = 0
    try:
        while piece := connection.recv(MIB):
            count += len(piece)
    except ConnectionResetError:
        pass
    return count


def test_file_that_shrinks_while_it_is_sent_is_seen(files: LocalStack, directory: Path):
    path = directory / "shrinking"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    before = len(files.log_events())
    with open_stream(f"{files.url}/wrapped?name=shrinking") as connection:
        # Far more than all buffers on the way hold is still to come.
        os.truncate(path, MIB)
        received = read_to_end(connection)

    assert received < 64 * MIB
    event = files.wait_for_event(event_with(event="application broke a rule"), since=before)
    assert f"its Content-Length is {64 * MIB}" in str(event["detail"])
    assert event["outcome"] == "connection broken"
    assert fetch(f"{files.url}/state").json()["closed"] == ["shrinking"]


def test_file_that_grows_while_it_is_sent_has_the_length_that_it_had(
    files: LocalStack, directory: Path
):
    path = directory / "growing"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    before = len(files.log_events())
    with open_stream(f"{files.url}/wrapped?name=growing") as connection:
        with path.open("ab") as file:
            file.write(b"more")
        head_and_body = bytearray()
        while len(head_and_body) < 64 * MIB:
            head_and_body += connection.recv(MIB)
        head, _, body = bytes(head_and_body).partition(b"\r\n\r\n")
        while len(body) < 64 * MIB:
            body += connection.recv(64 * MIB - len(body))
        # Were there more, it would come before the answer to what is asked next.
        connection.sendall(b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"

    assert b"Content-Length: %d\r\n" % (64 * MIB) in head
    assert body.count(0) == 64 * MIB
    assert files.log_events(since=before) == []
    path.unlink()


def test_client_that_leaves_half_way_is_no_error(files: LocalStack, directory: Path):
    path = directory / "left"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    before = len(files.log_events())
    open_stream(f"{files.url}/wrapped?name=left").close()

    assert fetch(f"{files.url}/state").json()["closed"] == ["left"]
    assert files.log_events(since=before) == []


# --- X-Sendfile -----------------------------------------------------------------------------------


def ask_for(files: LocalStack, path: str, **more: Any) -> Fetched:
    status = more.pop("status", "200 OK")
    return fetch(f"{files.url}/named?path={quote(path)}&status={quote(status)}", **more)


NAMES = [
    "plain.txt",
    "with space.txt",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{SNOWMAN}.txt",
    "100% +plus&and?what#hash.txt",
    "deeper/than/this.txt",
    "a;b=c,d.txt",
    "quo\"te'.txt",
    "back\\slash.txt",
]


@pytest.mark.parametrize("name", NAMES)
def test_nginx_sends_the_file(files: LocalStack, directory: Path, name: str):
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(f"the content of {name}")
    answer = ask_for(files, name)
    assert (answer.seen, answer.body.decode()) == (200, f"the content of {name}")
    assert answer.headers["Content-Length"] == str(len(answer.body))
    # What the application has said about it stays, how it was found does not.
    assert answer.headers["Content-Type"] == "text/x-of-the-application"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="report"'
    assert answer.headers["Set-Cookie"] == "seen=1"
    assert "X-Sendfile" not in answer.headers
    assert "X-Accel-Redirect" not in answer.headers
    # Nginx's own answer to its own file.
    assert answer.headers["ETag"]
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_ranges_conditions_and_head_are_nginxs_affair(files: LocalStack):
    part = ask_for(files, "pattern", headers=[("Range", "bytes=1000-2999")])
    assert (part.status, part.body) == (206, PATTERN[1000:3000])
    same = ask_for(files, "pattern", headers=[("If-None-Match", part.headers["ETag"])])
    assert (same.status, same.body) == (304, b"")
    head = ask_for(files, "pattern", method="HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(PATTERN)))


def test_large_file_is_not_sent_by_the_bridge(files: LocalStack):
    before = fetch(f"{files.url}/state").json()["sendfile_bytes"]
    assert ask_for(files, "pattern").body == PATTERN
    assert fetch(f"{files.url}/state").json()["sendfile_bytes"] == before


def test_nginx_sends_the_files_of_flask_with_x_sendfile(files: LocalStack):
    answer = fetch(f"{files.url}/flask/pattern")
    assert (answer.status, answer.body) == (200, PATTERN)
    assert answer.headers["Content-Disposition"] == "attachment; filename=pattern"
    assert answer.headers["Accept-Ranges"] == "bytes"
    before = fetch(f"{files.url}/state").json()["sendfile_bytes"]
    assert fetch(f"{files.url}/flask/small").body == PATTERN[:1000]
    assert fetch(f"{files.url}/state").json()["sendfile_bytes"] == before


@pytest.mark.parametrize("status", ["404 Not Found", "503 Busy", "403 No", "201 Made", "999 Own"])
@pytest.mark.parametrize("how", ["", "&generator"])
def test_with_a_status_that_nginx_has_not_the_file_is_sent_from_here(
    files: LocalStack, status: str, how: str
):
    """Nginx would make it 200."""
    url = f"{files.url}/named?path=pattern&status={quote(status)}{how}"
    for asked in ([], [("Range", "bytes=0-9")]):
        answer = fetch(url, headers=asked)
        assert (answer.seen, answer.body) == (int(status[:3]), PATTERN)
        assert answer.headers["Content-Length"] == str(len(PATTERN))
        assert answer.headers["Content-Type"] == "text/x-of-the-application"
        assert answer.headers["Set-Cookie"] == "seen=1"
        assert not {"X-Sendfile", "ETag"} & {*answer.headers}
    head = fetch(url, method="HEAD")
    assert (head.status, head.headers["Content-Length"]) == (int(status[:3]), str(len(PATTERN)))


@pytest.mark.parametrize("status", ["200 OK", "206 Partial Content"])
def test_with_a_status_of_nginxs_own_it_is_left_to_nginx(files: LocalStack, status: str):
    answer = ask_for(files, "pattern", status=status)
    assert (answer.seen, answer.body) == (200, PATTERN)
    assert answer.headers["ETag"]


def test_page_of_flasks_for_an_error_keeps_its_status(files: LocalStack):
    answer = fetch(f"{files.url}/flask/not/there")
    assert (answer.seen, answer.body) == (404, PATTERN[:1000])
    assert answer.headers["Content-Type"] == "text/x-page; charset=utf-8"


@pytest.mark.parametrize("name", ["nowhere", "deeper"])
def test_what_can_not_be_sent_from_here_is_a_500(files: LocalStack, directory: Path, name: str):
    (directory / "deeper").mkdir(exist_ok=True)
    before = len(files.log_events())
    assert ask_for(files, name, status="404 Not Found").status == 500
    event = files.wait_for_event(event_with(event="application broke a rule"), since=before)
    assert "X-Sendfile names" in str(event["detail"])


def test_way_out_of_the_directory_is_refused_with_any_status(files: LocalStack):
    assert ask_for(files, "../secret", status="404 Not Found").status == 500


def test_file_that_is_not_there_is_not_found(files: LocalStack):
    assert ask_for(files, "nowhere").status == 404


@pytest.mark.parametrize(
    "target", ["/protected/pattern", "/protected/", "/protected/../protected/pattern"]
)
def test_client_can_not_ask_for_it(files: LocalStack, target: str):
    assert fetch(files.url + target).status == 404


@pytest.mark.parametrize(
    "way",
    [
        "../secret",
        "../files-beside/secret",
        "deeper/../../secret",
        "/etc/passwd",
        "link",
        "linked-directory/secret",
        "chain",
    ],
)
def test_way_out_of_the_directory_is_refused(
    files: LocalStack, directory: Path, exercise_directory: Path, way: str
):
    for name, target in (
        ("link", exercise_directory / "secret"),
        ("linked-directory", exercise_directory),
        ("chain", directory / "link"),
    ):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(target)
    before = len(files.log_events())

    answer = ask_for(files, way)

    assert answer.status == 500
    assert b"secret" not in answer.body
    event = files.wait_for_event(event_with(event="application broke a rule"), since=before)
    assert "which is below no directory of --offload" in str(event["detail"])


def test_link_within_the_directory_is_followed(files: LocalStack, directory: Path):
    if not (directory / "alias").is_symlink():
        (directory / "alias").symlink_to("pattern")
    assert ask_for(files, "alias").body == PATTERN


def test_without_the_option_the_header_is_only_a_header(
    serve: Callable[..., LocalStack], directory: Path, exercise_directory: Path
):
    stack = serve("files:application", environment={"EXERCISE_DIRECTORY": str(exercise_directory)})
    answer = ask_for(stack, "pattern")
    assert answer.body == b"not this one"
