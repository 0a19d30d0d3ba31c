"""An upgrade in place to an installation that is broken: it is never begun, and what serves goes on."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import uwsgibridge
from integration.process_tree import everybody
from integration.workers import PATIENCE_SECONDS, Load, wait_gone, workers, write
from uwsgibridge.testing import LocalStack, event_with

FAILED = event_with(event="upgrade failed: the program that is installed now does not start")

RAISE = "raise RuntimeError('broken today')\n"
MISSING = None

# What becomes of a file of the installation, and what the log has to say about it.
BROKEN: dict[str, tuple[str, str | None, str]] = {
    "a missing module of the supervisor": (
        "uwsgibridge/supervisor/caretaker.py", MISSING, "uwsgibridge.supervisor.caretaker",
    ),
    "a syntax error in the supervisor": (
        "uwsgibridge/supervisor/supervisor.py", "def (\n", "SyntaxError",
    ),
    "a raise in the supervisor": ("uwsgibridge/supervisor/fleet.py", RAISE, "broken today"),
    "no template": ("uwsgibridge/supervisor/template.py", MISSING, "uwsgibridge.supervisor.template"),
    "a template that ends at once": ("uwsgibridge/supervisor/template.py", "", ""),
    "a syntax error in the template": (
        "uwsgibridge/supervisor/template.py", "def (\n", "SyntaxError",
    ),
    "a missing module of the worker": (
        "uwsgibridge/serving.py", MISSING, "uwsgibridge.serving",
    ),
    "a raise in the worker": ("uwsgibridge/listener/accept.py", RAISE, "broken today"),
    "a worker that fails as it runs": (
        "uwsgibridge/process_end.py", "import os\nos._exit(7)\n", "",
    ),
    "a name that is not there": ("uwsgibridge/supervisor/messages.py", "", "ImportError"),
    "no package": ("uwsgibridge/__init__.py", RAISE, "broken today"),
    "no program": ("uwsgibridge/__main__.py", MISSING, "uwsgibridge"),
    "a program that does nothing": ("uwsgibridge/__main__.py", "", "without having done anything"),
    "a dependency that does not load": ("trio/__init__.py", RAISE, "broken today"),
    "a dependency that another one needs": ("structlog/__init__.py", "", "structlog"),
}  # fmt: skip


@contextlib.contextmanager
def broken(file: Path, text: str | None) -> Iterator[None]:
    before = file.read_bytes() if file.exists() else None
    if text is None:
        file.unlink()
    else:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    try:
        yield
    finally:
        if before is not None:
            file.write_bytes(before)
        else:
            shutil.rmtree(file.parent)


def installation(directory: Path) -> Path:
    """Make a copy of the package that may be broken; Python takes it before the other one."""
    site = directory / "site"
    shutil.copytree(
        Path(uwsgibridge.__file__).parent,
        site / "uwsgibridge",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return site


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["workers", "preload"])
def test_it_is_never_begun_and_the_log_says_why(tmp_path, preload):
    site = installation(tmp_path)
    # Else the current directory comes first, which has the package as well.
    environment = {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    with workers(tmp_path, "tcp", "wsgi", *preload, environment=environment) as stack:
        everyone = everybody(stack.pid)
        with Load(stack.url, threads=2, pause_seconds=0.05) as load:
            for kind, (file, text, said) in BROKEN.items():
                with broken(site / file, text):
                    event = upgrade(stack)
                assert said in str(event["output"]), kind
                assert event["exit_status"] != 0, kind
                assert everybody(stack.pid) == everyone, kind
        assert set(load.seen) == {"one"}
        write(tmp_path, "two")
        since = len(stack.log_events())
        stack.bridge.signal(signal.SIGUSR2)
        stack.wait_for_event(
            event_with(event="reloaded"), since=since, timeout_seconds=PATIENCE_SECONDS
        )
        assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in everyone)
        with Load(stack.url) as load:
            pass
        assert set(load.seen) == {"two"}
        assert stack.stop() == 0


def upgrade(stack: LocalStack):
    since = len(stack.log_events())
    stack.bridge.signal(signal.SIGUSR2)
    return stack.wait_for_event(FAILED, since=since, timeout_seconds=PATIENCE_SECONDS)
