"""The hook --on-load is called before the application is imported, in each process that imports it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bridge_process import run_to_its_end, running_process
from uwsgibridge.client import request

SITE = """
import os

MODE = os.environ.get("SITE_MODE")


def app(environ, start_response):
    start_response("200 OK", [])
    return [f"{MODE} {os.environ.get('SITE_CALLS')} {os.environ.get('SITE_CALLER') == str(os.getpid())}".encode()]
"""

HOOKS = """
import os
import sys


def load():
    assert "site_app" not in sys.modules
    os.environ["SITE_MODE"] = "set before"
    os.environ["SITE_CALLS"] = os.environ.get("SITE_CALLS", "") + "+"
    os.environ["SITE_CALLER"] = str(os.getpid())


def fail():
    raise RuntimeError("no tracing today")
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(SITE)
    (tmp_path / "site_hooks.py").write_text(HOOKS)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "is_caller"),
    [
        (("--workers", "0"), True),
        (("--workers", "1"), True),
        (("--workers", "1", "--preload"), False),
    ],
    ids=["alone", "supervised", "preload"],
)
def test_hook_is_called_before_the_application_is_imported(
    options: tuple[str, ...], is_caller: bool, site: Path
) -> None:
    bind = f"unix:{site}/app.sock"
    arguments = ("serve", "site_app:app", "--bind", bind, "--on-load", "site_hooks:load", *options)
    with running_process(*arguments, directory=site) as process:
        body = request(process.address, "/").body
        assert process.stop() == 0
    assert body == f"set before + {is_caller}".encode()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_hook_that_fails_ends_the_start_with_its_traceback(workers: str, site: Path) -> None:
    arguments = ("serve", "site_app:app", "--bind", f"unix:{site}/app.sock", "--workers", workers)
    status, text = run_to_its_end(*arguments, "--on-load", "site_hooks:fail", directory=site)
    assert status == 3
    assert "the hook site_hooks:fail failed" in text
    assert "RuntimeError: no tracing today" in text


def test_hook_that_is_not_there_is_told(site: Path) -> None:
    arguments = ("serve", "site_app:app", "--bind", f"unix:{site}/app.sock")
    status, text = run_to_its_end(*arguments, "--on-load", "site_hooks:absent", directory=site)
    assert status == 3
    assert "site_hooks has no attribute 'absent'" in text
