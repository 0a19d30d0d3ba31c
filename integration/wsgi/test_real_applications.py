"""Frameworks and servers that people run, behind a real Nginx: as they are, and with both linters around.

``plain`` is the application itself. ``checked`` has `wsgiref.validate` and werkzeug's lint around it (see
`apps.checked`), except in three respects, each for a reason of the linters': HEAD, where werkzeug's lint
counts the bytes that a server must not send; `wsgi.file_wrapper`, which it replaces by its own; and the
methods of WebDAV, which the validator does not know and only warns of.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import requests

from integration.wsgi.apps.checked import COMPLAINTS
from integration.wsgi.conftest import APPS, PATTERN, REPOSITORY, mount
from integration.wsgi.fetching import fetch
from uwsgibridge.frontend.options import StaticDirectory
from uwsgibridge.testing import Site, event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

MIB = 1024 * 1024

# What Flask's logger has for a failure, which is an event of the bridge's log.
FAILED = "Exception on /fails [GET]"

NO_LIMIT = Site(client_max_body_bytes=0)


def assert_nothing_to_complain_of(stack: LocalStack) -> None:
    complaints = [
        line
        for line in stack.bridge_log.splitlines()
        if any(text in line for text in COMPLAINTS) and "Unknown REQUEST_METHOD" not in line
    ]
    assert complaints == []
    # What an application's own logger tells is for the application to answer for.
    events = {str(event["event"]) for event in stack.log_events() if "logger" not in event}
    assert events <= {
        *("worker started", "started", "listening"),
        "application wrote to wsgi.errors",
    }


@pytest.fixture(scope="module")
def frameworks(serve: Callable[..., LocalStack], exercise_directory: Path) -> Iterator[LocalStack]:
    """Flask at the root, and the others beside it."""
    stack = serve(
        "flask_app:plain",
        environment={"EXERCISE_DIRECTORY": str(exercise_directory)},
        serve_args=mount(
            "/checked=flask_app:application",
            "/bottle=bottle_app:plain",
            "/bottle-checked=bottle_app:application",
            "/dav=dav_app:plain",
            "/dav-checked=dav_app:application",
            "/git=git_app:plain",
            "/git-checked=git_app:application",
        ),
        site=NO_LIMIT,
    )
    yield stack
    assert_nothing_to_complain_of(stack)


@pytest.fixture(scope="session")
def database(exercise_directory: Path) -> Path:
    """Django's database, migrated, with one user."""
    subprocess.run(
        [sys.executable, "-m", f"{APPS}.django_site.prepare"],
        cwd=REPOSITORY,
        env={**os.environ, "EXERCISE_DIRECTORY": str(exercise_directory)},
        check=True,
        timeout=60,
    )
    return exercise_directory / "django" / "db.sqlite3"


@pytest.fixture(scope="module")
def django(
    serve: Callable[..., LocalStack], database: Path, exercise_directory: Path
) -> Iterator[LocalStack]:
    """Django at the root and, checked, below a prefix; Nginx serves the admin's own files."""
    import django.contrib.admin

    static = Path(django.contrib.admin.__file__).parent / "static"
    stack = serve(
        "django_site.wsgi:plain",
        environment={"EXERCISE_DIRECTORY": str(exercise_directory)},
        serve_args=mount("/checked=django_site.wsgi:application"),
        site=Site(static=(StaticDirectory("/static/", str(static)),)),
    )
    yield stack
    assert_nothing_to_complain_of(stack)


def variants(plain: str, checked: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("below", [plain, checked], ids=["plain", "checked"])


# --- Flask ----------------------------------------------------------------------------------------

on_flask = variants("", "/checked")


@on_flask
def test_flask_gets_forms(frameworks: LocalStack, browser: requests.Session, below: str):
    form = {"one": ["1", "2"], "caf\N{LATIN SMALL LETTER E WITH ACUTE}": ["\N{SNOWMAN} & more"]}
    assert browser.post(f"{frameworks.url}{below}/form", data=form).json() == form


@on_flask
@pytest.mark.parametrize("size", [0, 1000, 3 * MIB])
def test_flask_gets_uploads(
    frameworks: LocalStack, browser: requests.Session, below: str, size: int
):
    content = (PATTERN * (size // len(PATTERN) + 1))[:size]
    answer = browser.post(
        f"{frameworks.url}{below}/upload",
        data={"title": "Of two files"},
        files={
            "one": ("one.bin", content, "application/pdf"),
            "two": ("two.txt", b"two", "text/plain"),
        },
    ).json()
    assert answer["title"] == "Of two files"
    one, two = answer["files"]
    assert (one["name"], one["type"], one["bytes"]) == ("one.bin", "application/pdf", size)
    assert one["sha256"] == hashlib.sha256(content).hexdigest()
    assert (two["name"], two["bytes"]) == ("two.txt", 3)


@on_flask
def test_flask_gets_json(frameworks: LocalStack, browser: requests.Session, below: str):
    value = {"text": "\N{SNOWMAN}", "list": [1, None, {"deep": True}]}
    assert browser.post(f"{frameworks.url}{below}/json", json=value).json() == value
    assert browser.post(f"{frameworks.url}{below}/json", data="{").status_code == 415


@on_flask
def test_flask_keeps_a_session(frameworks: LocalStack, browser: requests.Session, below: str):
    url = frameworks.url + below
    assert browser.get(f"{url}/me").text == "nobody"
    answer = browser.post(f"{url}/log-in", data={"name": "ada"})
    # A redirect by url_for, below the prefix where there is one.
    assert [step.status_code for step in answer.history] == [303]
    assert answer.url == f"{url}/me"
    assert answer.text == "ada"
    assert browser.get(f"{url}/me").text == "ada"
    assert browser.post(f"{url}/log-out").text == "nobody"


@on_flask
def test_flask_streams_with_context(frameworks: LocalStack, browser: requests.Session, below: str):
    answer = browser.get(f"{frameworks.url}{below}/stream/1000?word=of")
    assert answer.text == "".join(f"{number} of\n" for number in range(1000))


@on_flask
def test_flask_sends_a_file(frameworks: LocalStack, browser: requests.Session, below: str):
    url = frameworks.url + below
    before = int(browser.get(f"{url}/sendfile-bytes").text)
    answer = browser.get(f"{url}/file/pattern.bin?download")
    sent_by_kernel = int(browser.get(f"{url}/sendfile-bytes").text) - before

    assert answer.content == PATTERN
    assert answer.headers["Content-Length"] == str(len(PATTERN))
    assert answer.headers["Content-Disposition"] == "attachment; filename=pattern.bin"
    if below:
        # Lint has put its own wrapper in, so as to count.
        assert sent_by_kernel == 0
    else:
        # All but what went out together with the head.
        assert len(PATTERN) - 65_536 <= sent_by_kernel <= len(PATTERN)


@on_flask
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-1999999", 1000, 2_000_000),
        ("bytes=2999000-", 2_999_000, len(PATTERN)),
        ("bytes=-10", len(PATTERN) - 10, len(PATTERN)),
    ],
)
def test_flask_send_file_ranges(
    frameworks: LocalStack, browser: requests.Session, below: str, asked: str, start: int, stop: int
):
    answer = browser.get(f"{frameworks.url}{below}/file/pattern.bin", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(PATTERN)}"
    assert answer.content == PATTERN[start:stop]


@on_flask
def test_flask_send_file_range_beyond_the_end(
    frameworks: LocalStack, browser: requests.Session, below: str
):
    url = f"{frameworks.url}{below}/file/pattern.bin"
    answer = browser.get(url, headers={"Range": "bytes=99999999-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(PATTERN)}"


@on_flask
def test_flask_send_file_conditionally(
    frameworks: LocalStack, browser: requests.Session, below: str
):
    url = f"{frameworks.url}{below}/file/pattern.bin"
    whole = browser.get(url)
    for condition in (
        {"If-None-Match": whole.headers["ETag"]},
        {"If-Modified-Since": whole.headers["Last-Modified"]},
    ):
        answer = browser.get(url, headers=condition)
        assert (answer.status_code, answer.content) == (304, b"")
    stale = browser.get(url, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (stale.status_code, len(stale.content)) == (200, len(PATTERN))
    fresh = browser.get(url, headers={"Range": "bytes=0-9", "If-Range": whole.headers["ETag"]})
    assert (fresh.status_code, fresh.content) == (206, PATTERN[:10])


def test_flask_send_file_head(frameworks: LocalStack, browser: requests.Session):
    answer = browser.head(f"{frameworks.url}/file/pattern.bin")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(PATTERN))


@on_flask
def test_flask_answers_its_own_failure_and_logs_it(
    frameworks: LocalStack, browser: requests.Session, below: str
):
    before = len(frameworks.log_events())
    answer = browser.get(f"{frameworks.url}{below}/fails")
    assert answer.status_code == 500
    assert "Internal Server Error" in answer.text
    # What Flask logs is one event, with the traceback.
    event = frameworks.wait_for_event(event_with(event=FAILED), since=before)
    last = str(event["exception"]).splitlines()[-1]
    assert last == "RuntimeError: a failure that Flask answers and logs itself"
    assert event["level"] == "error"


@on_flask
def test_flask_answers_what_is_not_found(
    frameworks: LocalStack, browser: requests.Session, below: str
):
    assert browser.get(f"{frameworks.url}{below}/nowhere").status_code == 404
    assert browser.get(f"{frameworks.url}{below}/form").status_code == 405


# --- Django ---------------------------------------------------------------------------------------

on_django = variants("", "/checked")


@on_django
def test_django_admin_lets_a_user_log_in(django: LocalStack, browser: requests.Session, below: str):
    url = django.url + below
    page = browser.get(f"{url}/admin/")
    assert page.url == f"{url}/admin/login/?next={below}/admin/"
    form = {"username": "ada", "password": "lovelace"}

    assert browser.post(page.url, data=form).status_code == 403, "without a token"
    forged = browser.post(page.url, data={**form, "csrfmiddlewaretoken": "x" * 64})
    assert forged.status_code == 403

    page = browser.get(page.url)
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found
    form["csrfmiddlewaretoken"] = found[1]
    wrong = browser.post(page.url, data={**form, "password": "byron"})
    assert "Please enter the correct username and password" in wrong.text
    answer = browser.post(page.url, data=form)
    assert answer.url == f"{url}/admin/"
    assert "Site administration" in answer.text
    assert ">ada</strong>" in answer.text

    # And on, with the session's cookie: a page with a query of the database and links of its own.
    users = browser.get(f"{url}/admin/auth/user/?q=ada")
    assert f'href="{below}/admin/auth/user/1/change/' in users.text


def test_django_static_files_come_from_nginx(django: LocalStack, browser: requests.Session):
    page = browser.get(f"{django.url}/admin/login/")
    assert page.status_code == 200, page.text
    (style,) = re.findall(r'href="(/static/admin/css/base\.css)"', page.text)
    answer = browser.get(django.url + style)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/css"
    assert "--primary" in answer.text
    # Nginx's own: Django sends none of these for a file, since it serves none.
    assert "max-age=" in answer.headers["Cache-Control"]


@on_django
@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_django_gets_uploads(django: LocalStack, browser: requests.Session, below: str, size: int):
    url = django.url + below
    content = (PATTERN * (size // len(PATTERN) + 1))[:size]
    token = browser.get(f"{url}/token").text
    answer = browser.post(
        f"{url}/upload",
        data={"title": "A file"},
        files={"file": ("of ada.bin", content)},
        headers={"X-CSRFToken": token},
    ).json()
    assert answer == {
        "title": "A file",
        "name": "of ada.bin",
        "bytes": size,
        "sha256": hashlib.sha256(content).hexdigest(),
        "spooled": "InMemoryUploadedFile" if size == 1000 else "TemporaryUploadedFile",
    }


@on_django
@pytest.mark.parametrize("size", [0, 100_000])
def test_django_reads_the_body(
    django: LocalStack, browser: requests.Session, below: str, size: int
):
    assert browser.post(f"{django.url}{below}/body", data=bytes(size)).text == str(size)


@on_django
def test_django_streams_a_response(django: LocalStack, browser: requests.Session, below: str):
    answer = browser.get(f"{django.url}{below}/stream/1000")
    assert answer.text == "".join(f"{number}\n" for number in range(1000))
    assert "Content-Length" not in answer.headers


@on_django
def test_django_sends_a_file(django: LocalStack, browser: requests.Session, below: str):
    url = django.url + below
    before = int(browser.get(f"{url}/sendfile-bytes").text)
    answer = browser.get(f"{url}/file/pattern.bin?download")
    sent_by_kernel = int(browser.get(f"{url}/sendfile-bytes").text) - before

    assert answer.content == PATTERN
    assert answer.headers["Content-Disposition"] == 'attachment; filename="pattern.bin"'
    if below:
        assert sent_by_kernel == 0
    else:
        assert len(PATTERN) - 65_536 <= sent_by_kernel <= len(PATTERN)


def test_django_answers_head_of_a_file(django: LocalStack, browser: requests.Session):
    answer = browser.head(f"{django.url}/file/pattern.bin")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(PATTERN))


@on_django
def test_django_redirects(django: LocalStack, browser: requests.Session, below: str):
    answer = browser.get(f"{django.url}{below}/elsewhere")
    assert answer.url == f"{django.url}{below}/where/redirected"
    assert answer.json()["url"] == answer.url


def test_django_refuses_a_foreign_host(django: LocalStack):
    assert fetch(f"{django.url}/where/x", headers=[("X-Forwarded-Host", "evil")]).status == 200
    where = requests.get(f"{django.url}/where/x", headers={"Host": "evil.example"}, timeout=10)
    assert where.status_code == 400


# --- Bottle ---------------------------------------------------------------------------------------

on_bottle = variants("/bottle", "/bottle-checked")


@on_bottle
def test_bottle_serves_its_pages(frameworks: LocalStack, browser: requests.Session, below: str):
    url = frameworks.url + below
    assert browser.get(f"{url}/hello/w\N{LATIN SMALL LETTER O WITH DIAERESIS}rld").content == (
        "Hello w\N{LATIN SMALL LETTER O WITH DIAERESIS}rld".encode()
    )
    assert browser.post(f"{url}/form", data={"a": ["1", "2"]}).json() == {"a": ["1", "2"]}
    assert browser.post(f"{url}/json", json={"a": [1, None]}).json() == {"a": [1, None]}
    upload = browser.post(f"{url}/upload", files={"file": ("a.bin", bytes(MIB))}).json()
    assert upload == {"name": "a.bin", "bytes": MIB}
    assert browser.get(f"{url}/stream").content.decode() == (
        "one zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf three"
    )
    assert browser.get(f"{url}/elsewhere").url == f"{url}/hello/there"
    assert [browser.get(f"{url}/cookie").text for _ in range(3)] == ["0", "1", "2"]
    assert browser.get(f"{url}/nowhere").status_code == 404


@on_bottle
def test_bottle_sends_a_static_file(frameworks: LocalStack, browser: requests.Session, below: str):
    url = f"{frameworks.url}{below}/file/pattern.bin"
    whole = browser.get(url)
    assert whole.content == PATTERN
    part = browser.get(url, headers={"Range": "bytes=1000-2999"})
    assert (part.status_code, part.content) == (206, PATTERN[1000:3000])
    seen = browser.get(url, headers={"If-None-Match": whole.headers["ETag"]})
    assert (seen.status_code, seen.content) == (304, b"")


# --- WebDAV ---------------------------------------------------------------------------------------

DAV = "{DAV:}"
LOCK = """<?xml version="1.0"?>
<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>
<D:locktype><D:write/></D:locktype><D:owner>ada</D:owner></D:lockinfo>"""


@variants("/dav", "/dav-checked")
def test_webdav_does_all_its_methods(
    frameworks: LocalStack, browser: requests.Session, below: str, socket_kind: str
):
    top = f"{frameworks.url}{below}/{socket_kind}{below.replace('/', '-')}"

    def ask(method: str, url: str, **more: Any) -> requests.Response:
        return browser.request(method, url, timeout=20, **more)

    def list_below(url: str) -> dict[str | None, str | None]:
        answer = ask("PROPFIND", url, headers={"Depth": "1"})
        assert answer.status_code == 207
        assert answer.headers["Content-Type"].startswith("application/xml")
        return {
            one.findtext(f"{DAV}href"): one.findtext(f".//{DAV}getcontentlength")
            for one in ET.fromstring(answer.content).iter(f"{DAV}response")
        }

    options = ask("OPTIONS", top.rpartition("/")[0] + "/")
    assert options.status_code == 200
    assert "PROPFIND" in options.headers["Allow"]

    assert ask("MKCOL", top).status_code == 201
    assert ask("MKCOL", top).status_code == 405
    assert ask("MKCOL", f"{top}/no/parent").status_code == 409

    # A large file, both ways.
    content = PATTERN * 7
    assert ask("PUT", f"{top}/one file.bin", data=content).status_code == 201
    path = top.removeprefix(frameworks.url)
    listed = list_below(f"{top}/")
    assert listed[f"{path}/one%20file.bin"] == str(len(content))
    answer = ask("GET", f"{top}/one file.bin")
    assert answer.content == content
    part = ask("GET", f"{top}/one file.bin", headers={"Range": "bytes=20000000-20000099"})
    assert (part.status_code, part.content) == (206, content[20_000_000:20_000_100])

    moved = ask("MOVE", f"{top}/one file.bin", headers={"Destination": f"{top}/moved.bin"})
    assert moved.status_code == 201
    assert set(list_below(f"{top}/")) == {f"{path}/", f"{path}/moved.bin"}
    copied = ask("COPY", f"{top}/moved.bin", headers={"Destination": f"{top}/copied.bin"})
    assert copied.status_code == 201
    refused = ask(
        "COPY", f"{top}/moved.bin", headers={"Destination": f"{top}/copied.bin", "Overwrite": "F"}
    )
    assert refused.status_code == 412

    locked = ask("LOCK", f"{top}/moved.bin", data=LOCK, headers={"Timeout": "Second-60"})
    assert locked.status_code == 200
    lock = locked.headers["Lock-Token"]
    assert ask("PUT", f"{top}/moved.bin", data=b"short").status_code == 423
    owned = ask("PUT", f"{top}/moved.bin", data=b"short", headers={"If": f"({lock})"})
    assert owned.status_code == 204
    assert ask("UNLOCK", f"{top}/moved.bin", headers={"Lock-Token": lock}).status_code == 204
    assert ask("GET", f"{top}/moved.bin").content == b"short"

    assert ask("DELETE", top).status_code == 204
    assert ask("PROPFIND", f"{top}/").status_code == 404


# --- git ------------------------------------------------------------------------------------------


class Git:
    """The real client, with nobody's configuration but its own.

    Args:
        home: a directory for it, and for its work.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "no_proxy": "*",
            "LC_ALL": "C",
        }

    def run(self, *arguments: str, stdin: bytes = b"", **variables: str) -> str:
        """Run a command; what it has written to both outputs."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.home,
            env={**self._environment, **variables},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=60,
        )
        output = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, output
        return output


def has_http_backend() -> bool:
    if shutil.which("git") is None:
        return False
    found = subprocess.run(["git", "--exec-path"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(found.stdout.strip(), "git-http-backend").exists()


BRANCHES = 40


def history(large: bytes) -> bytes:
    """Input of fast-import: a large file on main, and many branches, each with a commit of its own."""
    who = "Ada <ada@example.org> 1700000000 +0000"
    text = (
        f"commit refs/heads/main\nmark :1\ncommitter {who}\ndata 4\nmain\nM 644 inline large.bin\n"
    )
    stream = text.encode() + b"data %d\n%b\n" % (len(large), large)
    for number in range(BRANCHES):
        stream += (
            f"commit refs/heads/branch-{number}\ncommitter {who}\ndata 6\nbranch\nfrom :1\n"
            f"M 644 inline number.txt\ndata {len(str(number))}\n{number}\n"
        ).encode()
    return stream


@pytest.mark.skipif(
    not has_http_backend(), reason="git, or its program http-backend, is not installed"
)
@variants("/git", "/git-checked")
def test_git_pushes_and_clones(
    frameworks: LocalStack, exercise_directory: Path, tmp_path: Path, below: str, socket_kind: str
):
    name = f"{socket_kind}{below.replace('/', '-')}.git"
    git = Git(tmp_path)
    bare = exercise_directory / "git" / name
    git.run("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    git.run("init", "--quiet", "--initial-branch=main", "work")
    # Of random bytes, so that no compression makes it small.
    large = os.urandom(3_000_000)
    git.run("-C", "work", "fast-import", "--quiet", stdin=history(large))
    url = f"{frameworks.url}{below}/{name}"
    before = len(frameworks.log_events())

    # With the smallest buffer that git allows, a push of this size goes out in chunks.
    pushed = git.run(
        *("-C", "work", "-c", "http.postBuffer=1"),
        *("push", "--all", url),
        GIT_TRACE_CURL="1",
    )
    assert "transfer-encoding: chunked" in pushed.lower()
    git.run("clone", "--quiet", url, "cloned")
    git.run("-C", "cloned", "fsck", "--strict")

    assert (tmp_path / "cloned" / "large.bin").read_bytes() == large
    heads = git.run("-C", "work", "rev-parse", "main", *(f"branch-{n}" for n in range(BRANCHES)))
    assert heads == git.run(
        "-C",
        "cloned",
        "rev-parse",
        "origin/main",
        *(f"origin/branch-{number}" for number in range(BRANCHES)),
    )

    # What arrived: the pack with its length although it came in chunks, the long list of wishes gzipped.
    told = [str(event.get("line")) for event in frameworks.log_events(since=before)]
    packs = [line for line in told if "git-receive-pack CONTENT_LENGTH=" in line]
    lengths = [int(re.findall(r"CONTENT_LENGTH=(\d+)", line)[0]) for line in packs]
    assert max(lengths) > len(large)
    assert [line for line in told if "git-upload-pack" in line and "ENCODING=gzip" in line]

    # And once more, with what is there already: a push and a fetch of one small commit.
    (tmp_path / "work" / "new.txt").write_text("new")
    git.run("-C", "work", "checkout", "--quiet", "main")
    git.run("-C", "work", "add", "new.txt")
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    git.run("-C", "work", *identity, "commit", "--quiet", "--message=new")
    git.run("-C", "work", "push", "--quiet", url, "main")
    git.run("-C", "cloned", "pull", "--quiet")
    assert (tmp_path / "cloned" / "new.txt").read_text() == "new"
