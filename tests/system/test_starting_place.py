"""What options have changed of the directory and the environment of a process, and what was there before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from uwsgibridge.system import starting_place


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that the process was started in, as far as the module knows."""
    monkeypatch.setattr(starting_place, "_start", None)
    monkeypatch.setattr(starting_place, "_changed", {})
    for name in ("SP_ONE", "SP_TWO", "SP_THREE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    start = tmp_path.resolve() / "start"
    (start / "one" / "two").mkdir(parents=True)
    monkeypatch.chdir(start)
    return start


def test_nothing_is_known_where_nothing_was_changed() -> None:
    assert starting_place.original_directory() is None
    assert starting_place.original_environment() == dict(os.environ)
    with starting_place.in_original_directory():
        pass


def test_it_comes_back_from_the_directory_of_the_start(place: Path) -> None:
    assert starting_place.change_directory("one") == f"{place}/one"
    assert starting_place.change_directory("two") == f"{place}/one/two"
    assert starting_place.original_directory() == str(place)
    with starting_place.in_original_directory():
        assert Path.cwd() == place
    assert Path.cwd() == place / "one" / "two"
    with pytest.raises(RuntimeError), starting_place.in_original_directory():
        raise RuntimeError
    assert Path.cwd() == place / "one" / "two"


def test_a_link_is_not_resolved(place: Path) -> None:
    (place / "link").symlink_to("one")
    assert starting_place.change_directory("link") == f"{place}/link"
    assert Path.cwd() == place / "one"


def test_steps_up_are_left_out_where_they_can_be(place: Path) -> None:
    """Another user may not enter the directory of the start."""
    starting_place.change_directory("one")
    assert starting_place.change_directory("../one/./two") == f"{place}/one/two"
    assert starting_place.change_directory("..") == f"{place}/one"
    (place / "link").symlink_to("one/two")
    assert starting_place.change_directory("../link/..") == f"{place}/one/../link/.."
    assert Path.cwd() == place / "one"


def test_a_directory_that_is_gone(place: Path) -> None:
    starting_place.change_directory("/")
    place.rename(place.with_name("moved"))
    with pytest.raises(FileNotFoundError), starting_place.in_original_directory():
        pass
    assert Path.cwd() == Path("/")


def test_a_directory_that_can_not_be_entered_changes_nothing(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        starting_place.change_directory("missing")
    assert starting_place.original_directory() is None
    assert Path.cwd() == place


def test_the_environment_of_the_start_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SP_ONE", "before")
    before = dict(os.environ)
    starting_place.change_environment({"SP_ONE": "1", "SP_TWO": "2", "SP_THREE": None})
    starting_place.change_environment({"SP_ONE": None, "SP_TWO": "22"})
    assert "SP_ONE" not in os.environ
    assert os.environ["SP_TWO"] == "22"
    assert starting_place.original_environment() == before
    assert starting_place.changed_variables() == {"SP_ONE", "SP_TWO", "SP_THREE"}


def test_what_somebody_else_has_changed_since_stays_changed() -> None:
    starting_place.change_environment({"SP_ONE": "1"})
    os.environ["SP_ONE"] = "other"
    assert starting_place.original_environment()["SP_ONE"] == "other"


def test_the_time_zone_is_in_force_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        starting_place.change_environment({"TZ": "Asia/Tokyo"})
        assert time.timezone == -9 * 3600
    finally:
        os.environ["TZ"] = "UTC"
        time.tzset()
