"""A command that can't be run is refused at the start, with the reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.other_users import as_nobody, need_root
from uwsgibridge.commands.finding import environment, require_programs
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a directory that alone is on PATH, with one program that runs and one that does not."""
    (tmp_path / "runs").write_text("#!/bin/sh\n")
    (tmp_path / "runs").chmod(0o755)
    (tmp_path / "locked").write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("program", ["runs", "./runs", "{place}/runs"])
def test_programs_that_run(place: Path, program: str) -> None:
    command = program.replace("{place}", str(place))
    require_programs(
        Settings(
            workers=1,
            sidecar=(f"{command} once",),
            on_start=(f"exec:{command}", "touch:/no/such/place"),
            on_ready=(f"exec:{command}",),
        )
    )


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            "nowhere",
            "there is no program 'nowhere' on PATH; name it by its path, or write sh -c '...' for what is a shell's own",
        ),
        ("./nowhere", "there is no program ./nowhere (No such file or directory)"),
        ("runs/it", "there is no program runs/it (Not a directory)"),
        ("locked", "locked is on PATH, but this user may not run it"),
        ("./locked", "this user may not run ./locked; make it executable (chmod +x)"),
        ("./", "./ is a directory"),
    ],
)
@pytest.mark.parametrize("option", ["sidecar", "on_start", "on_ready"])
def test_programs_that_do_not_are_told_by_their_option(
    place: Path, option: str, program: str, reason: str
) -> None:
    begin = "" if option == "sidecar" else "exec:"
    values: dict[str, Any] = {option: (f"{begin}{program} all day",)}
    with pytest.raises(SettingsError) as raised:
        require_programs(Settings(workers=1, **values))
    name = f"--{option.replace('_', '-')}"
    assert str(raised.value) == f"{name} '{program} all day': {reason}"


@need_root
def test_a_program_that_this_user_can_not_reach_is_told(place: Path) -> None:
    (place / "own").mkdir(0o700)
    (place / "own/runs").symlink_to(place / "runs")
    with (
        as_nobody(),
        pytest.raises(SettingsError, match="this user may not enter the directories of"),
    ):
        require_programs(Settings(workers=1, sidecar=(f"{place}/own/runs",)))


def test_what_is_installed_beside_the_bridge_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr(sys, "prefix", "/srv/venv")
    monkeypatch.setattr(sys, "executable", "/srv/venv/bin/python")
    assert environment()["PATH"] == "/srv/venv/bin:/usr/bin"
    assert os.environ["PATH"] == "/usr/bin"
    monkeypatch.setenv("PATH", "/usr/bin:/srv/venv/bin")
    assert environment()["PATH"] == "/usr/bin:/srv/venv/bin"
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setenv("PATH", "/usr/bin")
    assert environment()["PATH"] == "/usr/bin"


def test_an_activated_environment_goes_before_that_of_the_bridge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/srv/site/bin:/usr/bin")
    monkeypatch.setenv("VIRTUAL_ENV", "/srv/site")
    monkeypatch.setattr(sys, "prefix", "/srv/venv")
    monkeypatch.setattr(sys, "executable", "/srv/venv/bin/python")
    assert environment()["PATH"] == "/srv/site/bin:/srv/venv/bin:/usr/bin"
    # A variable that was inherited says nothing of what comes first.
    monkeypatch.setenv("PATH", "/usr/bin:/srv/site/bin")
    assert environment()["PATH"] == "/srv/venv/bin:/usr/bin:/srv/site/bin"
