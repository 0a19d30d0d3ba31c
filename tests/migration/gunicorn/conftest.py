"""What the tests of gunicorn's configurations share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from uwsgibridge.config.options import Kind, Option
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.migration.gunicorn.given import Reading
from uwsgibridge.migration.gunicorn.reading import read_configuration
from uwsgibridge.migration.gunicorn.table import make_plan
from uwsgibridge.migration.plan import Plan

Read = Callable[..., Reading]
MakePlan = Callable[..., Plan]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read arguments, with a ``gunicorn.conf.py`` where a text is given."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(
        *arguments: str, text: str | None = None, environ: Mapping[str, str] | None = None
    ) -> Reading:
        if text is not None:
            (tmp_path / "gunicorn.conf.py").write_text(text)
        return read_configuration(arguments, environ or {}, str(tmp_path)).portable()

    return run


@pytest.fixture
def plan(read: Read) -> MakePlan:
    """Make the plan of what `read` reads; the application is ``site:app`` where no other is named."""

    def run(
        *arguments: str,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        ignored: tuple[str, ...] = (),
        has_inherited_sockets: bool = False,
    ) -> Plan:
        reading = read(*(arguments or ("site:app",)), text=text, environ=environ)
        return make_plan(reading, ignored=ignored, has_inherited_sockets=has_inherited_sockets)

    return run


# Options that configurations of other servers need, and that the table may not have yet.
_FURTHER = {
    Kind.TEXTS: ("env", "python_path", "on_start", "on_ready"),
    Kind.TEXT: ("chdir", "access_log_file"),
}


@pytest.fixture
def all_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the table of options those that it may not have yet."""
    for kind, names in _FURTHER.items():
        for name in names:
            if name not in OPTIONS:
                option = Option(kind=kind, default="", help="It is there.", section="Processes")
                monkeypatch.setitem(OPTIONS, name, option)
