"""What the tests of several replicas share: their application, their images, and the load on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from integration.workers import Load
from uwsgibridge.testing.engine import docker_command

ROOT: Final = Path(__file__).parents[2]
BUILD_SECONDS: Final = 900.0
PATIENCE_SECONDS: Final = 180.0

# Each check starts a Python, which takes seconds on a busy machine.
HEALTHCHECK: Final = {"interval": "3s", "timeout": "30s", "start_period": "60s"}

# Nginx's id of a request stays the same where Nginx sends it to another server. A POST that is carried out a second time is
# answered 409.
APPLICATION: Final = """
import os
import time

VERSION = os.environ["VERSION"]
if VERSION == "broken":
    raise RuntimeError("this version does not load")

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    time.sleep(0.02)
    status = "200 OK"
    if environ["REQUEST_METHOD"] == "POST":
        try:
            os.close(os.open("/ids/" + environ["REQUEST_ID"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            status = "409 Conflict"
    start_response(status, [("Content-Type", "text/plain")])
    return [f"{VERSION} {os.uname().nodename} {len(body)}".encode()]
"""


def docker(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    seconds: float = PATIENCE_SECONDS,
    text: str | None = None,
) -> str:
    """Run ``docker``, which has to succeed, and give what it wrote to standard output."""
    done = subprocess.run(
        (docker_command(), *arguments),
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
        input=text,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@contextlib.contextmanager
def images() -> Iterator[tuple[str, str]]:
    """Build the image of the application and that of Nginx; both are removed at the end."""
    app, nginx = (f"uwsgibridge-replicas-{it}:{os.getpid()}" for it in ("app", "nginx"))
    bases = [
        f"--build-arg={it}={os.environ[it]}"
        for it in ("PYTHON_IMAGE", "NGINX_IMAGE")
        if it in os.environ
    ]
    try:
        with tempfile.TemporaryDirectory() as directory:
            base = f"{app}-base"
            plain = ("--build-arg=EXTRAS=uvloop", *bases)
            docker("build", "-q", "--target=bridge", *plain, f"-t{base}", str(ROOT), seconds=BUILD_SECONDS)  # fmt: skip
            docker("build", "-q", "--target=nginx", *plain, f"-t{nginx}", str(ROOT), seconds=BUILD_SECONDS)  # fmt: skip
            Path(directory, "mysite.py").write_text(APPLICATION)
            Path(directory, "Dockerfile").write_text(
                f"FROM {base}\nCOPY --chmod=644 mysite.py /app/\n"
            )
            docker("build", "-q", f"-t{app}", directory, seconds=BUILD_SECONDS)
        yield app, nginx
    finally:
        docker("image", "rm", "--force", app, f"{app}-base", nginx)


@contextlib.contextmanager
def ids() -> Iterator[str]:
    """Make a directory in which the application notes the POSTs that it has carried out."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield directory


@contextlib.contextmanager
def load(url: str) -> Iterator[tuple[Load, Load]]:
    """Send GETs and POSTs for as long as a `with` block lasts.

    They leave processors to the containers that come and go.
    """
    with Load(url, 3, 0.05) as gets, Load(url, 3, 0.05, body=b"x" * 10_000) as posts:
        yield gets, posts


def seen(
    loads: tuple[Load, Load], name: str, record_property: Callable[[str, object], None]
) -> set[str]:
    """Tell what came of the requests, of which there were enough; the figures are printed (`pytest -s` shows them)."""
    gets, posts = (it.seen for it in loads)
    said = {"GET": dict(gets), "POST": dict(posts)}
    record_property(name, said)
    sys.stdout.write(f"\n{name}: {said}\n")
    assert min(gets.total(), posts.total()) > 200
    return {*gets, *posts}


def wait_until(is_so: Callable[[], bool], what: Callable[[], str] = str) -> None:
    """Look four times a second, since Docker tells nobody of such changes."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < deadline, what()
        sleep(0.25)


def hosts_that_answer(url: str, rounds: int = 30) -> set[str]:
    """Ask some times, and give the names of the containers that have answered."""
    found = set()
    for _ in range(rounds):
        with (
            contextlib.suppress(OSError),  # an HTTPError is one
            urllib.request.urlopen(url, timeout=20) as answer,
        ):
            found.add(answer.read().decode().split()[1])
    return found
