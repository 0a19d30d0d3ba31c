"""Starts a configuration of the corpus, under this server or the real uWSGI, and asks it."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.bridge_process import environment_of
from tests.log_events import EVENT_SECONDS
from tests.migration.uwsgi.corpus.cases import HERE, Case
from uwsgibridge.client import ClientError, request
from uwsgibridge.system.lifeline import Lifeline

# Headers that each server writes by itself, or that are added to a file's here.
_OWN_HEADERS: Final = frozenset(
    {"server", "date", "connection", "content-length", "etag", "accept-ranges", "last-modified"}
)
_TURN_SECONDS: Final = 0.01

# An answer as it is recorded: status, headers, body; nothing where the connection was closed without one.
Answer = list[Any] | None


class Site:
    """A copy of site/ with a configuration in it.

    Args:
        case: what is to be started.
        directory: where the copy is made.
    """

    def __init__(self, case: Case, directory: Path) -> None:
        self.case = case
        self.start = directory / "site"
        shutil.copytree(HERE / "site", self.start)
        for argument in (*case.command, *case.environ.values()):
            for name in re.findall(r"[\w-]+\.(?:ini|ya?ml|xml|json)\b", argument):
                text = (HERE / "configurations" / name).read_text()
                (self.start / name).write_text(self._filled(text))
        self.arguments = [self._filled(it) for it in case.command]
        self.environment = {
            "PYTHONPATH": str(HERE / "lib"),
            "SITE_START": str(self.start),
            **{name: self._filled(value) for name, value in case.environ.items()},
        }

    def _filled(self, text: str) -> str:
        user = pwd.getpwuid(os.geteuid()).pw_name
        group = grp.getgrgid(os.getegid()).gr_name
        for before in (":", "gid = "):
            text = text.replace(f"{before}www-data", f"{before}{group}")
        text = text.replace("www-data", user)
        text = text.replace("/srv/site", str(self.start)).replace("/srv/venv", sys.prefix)
        text = re.sub(r"\bchdir = /srv$", f"chdir = {self.start.parent}", text, flags=re.MULTILINE)
        return re.sub(r"\b3031\b", "0", text)

    def recorded(self, text: str) -> str:
        """Give a text as it is recorded: without the names of this machine."""
        return text.replace(str(self.start), "/srv/site")

    def log_text(self) -> str:
        """Give all that a server has logged, wherever its configuration has it log."""
        files = [self.start.parent / "log", *self.start.rglob("*.log")]
        return "".join(it.read_text("utf-8", "replace") for it in files if it.exists())

    def ask(self, address: str) -> list[Answer]:
        """Ask for all paths of the case."""
        return [self._ask(address, path) for path in self.case.paths]

    def _ask(self, address: str, path: str) -> Answer:
        has_body = path.startswith("/a%20b")
        try:
            found = request(
                address,
                path,
                method="POST" if has_body else "GET",
                body=b"a=1&b=2" if has_body else b"",
                headers=[("Cookie", "a=1"), ("X-Request-Id", "7")],
                timeout_seconds=EVENT_SECONDS,
            )
        except ClientError:
            return None
        headers = [
            [name.lower(), value]
            for name, value in found.headers
            if name.lower() not in _OWN_HEADERS
        ]
        return [found.status, sorted(headers), self.recorded(found.body.decode("utf-8", "replace"))]


@contextmanager
def running(
    site: Site, program: Sequence[str], addresses: Callable[[str, int], list[str]]
) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """Start a server, and wait until it listens.

    Args:
        site: with the configuration.
        program: what is started, before uWSGI's own arguments.
        addresses: finds addresses in the log; none as long as not all are there.
    """
    lifeline = Lifeline()
    with (site.start.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [*program, *site.arguments],
            cwd=site.start,
            env={**environment_of({}), **site.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lifeline.inherited],
        )
    lifeline.hold(process.pid)
    try:
        yield process, _wait(site, process, addresses)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        lifeline.cut()


def _wait(
    site: Site, process: subprocess.Popen[bytes], addresses: Callable[[str, int], list[str]]
) -> list[str]:
    deadline = time.monotonic() + EVENT_SECONDS
    while True:
        has_ended = process.poll() is not None
        if found := addresses(site.log_text(), process.pid):
            return found
        if time.monotonic() > deadline or (has_ended and process.returncode):
            return []
        time.sleep(_TURN_SECONDS)


def ask_here(site: Site) -> dict[str, Any]:
    """Give what this server listens on and answers, and how it ends; where it does not start, what it says."""
    # Without -P, -m has the start directory found as well, which the installed command does not.
    program = (sys.executable, "-P", "-m", "uwsgibridge", "run-uwsgi")
    ignored = [one for it in site.case.ignored for one in ("--ignore", it)]
    with running(site, [*program, *ignored], _own_addresses) as (process, found):
        if not found:
            return {"exit status": process.wait(EVENT_SECONDS), "log": site.log_text()}
        answers = site.ask(found[0])
        process.send_signal(signal.SIGTERM)
        status = process.wait(EVENT_SECONDS)
    return {
        "sockets": sorted(site.recorded(_without_port(it)) for it in found),
        "answers": answers,
        "exit status": status,
    }


def _own_addresses(log: str, pid: int) -> list[str]:
    events = [json.loads(it) for it in log.splitlines() if it.startswith("{") and it.endswith("}")]
    wanted = next((it["addresses"] for it in events if it.get("event") == "started"), None)
    found = [_reached(it["address"]) for it in events if it.get("event") == "listening"]
    return found if wanted is not None and len(found) == len(wanted) else []


def ask_uwsgi(site: Site, program: str) -> dict[str, Any]:
    """Give what the real uWSGI listens on and answers; where it does not start, its exit status."""
    with running(site, [program], _uwsgi_addresses) as (process, found):
        try:
            if not found:
                return {"exit status": process.poll()}
            answers = site.ask(found[0])
            return {
                "sockets": sorted(site.recorded(_without_port(it)) for it in found),
                "answers": answers,
            }
        finally:
            _end_all(site)


def _uwsgi_addresses(log: str, pid: int) -> list[str]:
    if "Operational MODE" not in log:
        return []
    directory = Path(f"/proc/{pid}/cwd")
    found = []
    for kind, address in re.findall(r"bound to (UNIX|TCP) address (\S+)", log):
        if kind == "TCP":
            found.append(_reached(address))
            continue
        path = Path(address)
        if not path.is_absolute():
            with contextlib.suppress(OSError):  # the process has gone to the background
                path = directory.readlink() / path
        found.append(f"unix:{os.path.normpath(path)}")
    return found


def _reached(address: str) -> str:
    if address.startswith("unix:"):
        return address
    host, _, port = address.rpartition(":")
    return f"{'127.0.0.1' if host in {'', '0.0.0.0'} else host}:{port}"


def _without_port(address: str) -> str:
    return address if address.startswith("unix:") else address.rpartition(":")[0]


def _end_all(site: Site) -> None:
    """End each process that has been started for a site, wherever it has put itself."""
    mark = f"SITE_START={site.start}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
