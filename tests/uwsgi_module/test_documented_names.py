"""docs/uwsgi-module.md names all that the modules have, and all that they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from uwsgibridge.config.settings import Settings
from uwsgibridge.uwsgi_module import decorators
from uwsgibridge.uwsgi_module.missing import DECORATORS, FUNCTIONS
from uwsgibridge.uwsgi_module.place import read_place
from uwsgibridge.uwsgi_module.schedule import Schedule
from uwsgibridge.uwsgi_module.shared_file import SharedFile
from uwsgibridge.uwsgi_module.uwsgi import make_module

PAGE: Final = (Path(__file__).parents[2] / "docs" / "uwsgi-module.md").read_text()
WRITTEN: Final = set(re.findall(r"`(@?\w+)[`(]", PAGE))
SETTINGS: Final = Settings(uwsgi_module=True, pid_file="a.pid")
UWSGI: Final = make_module(read_place(SETTINGS, {}), Schedule(), SharedFile(""))
# What uWSGI's own module of decorators has for itself.
INNER: Final = {"uwsgi", "postfork_chain", "postfork_chain_hook", "get_free_signal"}


@pytest.mark.parametrize("name", sorted(it for it in vars(UWSGI) if not it.startswith("_")))
def test_each_name_is_on_the_page(name: str) -> None:
    assert name in WRITTEN


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_what_is_refused_stands_among_that(name: str) -> None:
    refused = PAGE[PAGE.index("## What is not there") :]
    assert re.search(rf"`{name}`", refused)


@pytest.mark.parametrize(
    "name",
    sorted(it for it in vars(decorators.make_module(UWSGI)) if not it.startswith("_")),
)
def test_each_decorator_is_on_the_page(name: str) -> None:
    assert name in INNER or f"@{name}" in WRITTEN


def test_the_page_has_no_other_decorators() -> None:
    known = set(vars(decorators.make_module(UWSGI))) | set(DECORATORS)
    assert {it.removeprefix("@") for it in WRITTEN if it.startswith("@")} <= known
