"""The directory is made or emptied at a start, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prometheus_files import names, write_file
from uwsgibridge.errors import SettingsError
from uwsgibridge.multiproc.directory import hold_directory, make_directory
from uwsgibridge.multiproc.ended import FilesOfEnded
from uwsgibridge.multiproc.names import BARRIER, BARRIER_TARGET

NOBODY = 65534


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with hold_directory(str(tmp_path / "figures"), None) as descriptor:
        assert os.path.sameopenfile(descriptor, descriptor)
        assert (tmp_path / "figures").stat().st_mode & 0o777 == 0o700


def test_what_an_earlier_run_left_is_removed(tmp_path: Path) -> None:
    with hold_directory(str(tmp_path), None) as descriptor:
        for number in range(2):
            write_file(tmp_path, "counter", number, 1)
        FilesOfEnded(descriptor, 0).fold(())
        write_file(tmp_path, "gauge_livemostrecent", 7, 1)
        (tmp_path / "counter.damaged").touch()
        (tmp_path / ".uwsgibridge-old-counter_1.db").touch()
        (tmp_path / BARRIER).symlink_to(BARRIER_TARGET)
    (tmp_path / ".gitkeep").touch()
    (tmp_path / "lost+found").mkdir()
    with hold_directory(str(tmp_path), None):
        assert names(tmp_path) == []
        found = sorted(it.name for it in tmp_path.iterdir())
        assert found == [".gitkeep", ".uwsgibridge-owner", "lost+found"]


def test_an_upgrade_removes_nothing(tmp_path: Path) -> None:
    write_file(tmp_path, "counter", 1, 1)
    with hold_directory(str(tmp_path), None, is_upgrade=True):
        assert names(tmp_path) == ["counter_1.db"]


@pytest.mark.parametrize(
    "name", ["app.db", "notes.txt", "counter_1.db.txt", "counter_.db", "enum_1.db"]
)
def test_a_foreign_file_is_refused_and_nothing_is_removed(tmp_path: Path, name: str) -> None:
    write_file(tmp_path, "counter", 1, 1)
    (tmp_path / name).touch()
    with (
        pytest.raises(SettingsError, match=f"{name} is no file of prometheus_client"),
        hold_directory(str(tmp_path), None),
    ):
        pass

    assert (tmp_path / "counter_1.db").exists()
    assert (tmp_path / name).exists()


def test_a_directory_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").mkdir()
    with (
        pytest.raises(SettingsError, match=r"counter_1\.db is no file"),
        hold_directory(str(tmp_path), None),
    ):
        pass


def test_links_are_refused(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with (
        pytest.raises(SettingsError, match="link is a link: name the directory that it leads to"),
        hold_directory(str(tmp_path / "link"), None),
    ):
        pass
    (real / "counter_1.db").symlink_to(tmp_path)
    with (
        pytest.raises(SettingsError, match=r"counter_1\.db is a link"),
        hold_directory(str(real), None),
    ):
        pass


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingsError, match=r"--prometheus-multiproc-dir .*file"),
        hold_directory(str(tmp_path / "file"), None),
    ):
        pass


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match=r"there is no directory .*missing; create it first"),
        hold_directory(str(tmp_path / "missing" / "figures"), None),
    ):
        pass


def test_where_everybody_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with (
        pytest.raises(SettingsError, match="everybody can write there"),
        hold_directory(str(tmp_path), None),
    ):
        pass


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    hold = (
        "from uwsgibridge.multiproc.directory import hold_directory\n"
        "import sys\n"
        "with hold_directory(sys.argv[1], None):\n"
        "    pass\n"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with hold_directory(str(tmp_path), None):
        write_file(tmp_path, "counter", 1, 1)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "another server uses it" in second.stderr
        assert names(tmp_path) == ["counter_1.db"]
    subprocess.run(command, check=True)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
def test_root_makes_it_for_the_user_that_the_server_becomes(tmp_path: Path) -> None:
    for directory in (tmp_path, *list(tmp_path.parents)[:-2]):
        directory.chmod(0o755)
    path = tmp_path / "figures"
    with hold_directory(str(path), (NOBODY, NOBODY)):
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)
        assert {it.stat().st_uid for it in path.iterdir()} == {NOBODY}
    other = tmp_path / "roots"
    other.mkdir(mode=0o755)
    with (
        pytest.raises(SettingsError, match="no permission to create or remove files in"),
        hold_directory(str(other), (NOBODY, NOBODY)),
    ):
        pass


def test_a_rehearsal_makes_it_and_leaves_it_to_its_owner(tmp_path: Path) -> None:
    make_directory(str(tmp_path / "figures"))
    with hold_directory(str(tmp_path / "figures"), None):
        write_file(tmp_path / "figures", "counter", 1, 1)
        make_directory(str(tmp_path / "figures"))
        assert names(tmp_path / "figures") == ["counter_1.db"]
    with pytest.raises(SettingsError, match="create it first"):
        make_directory(str(tmp_path / "missing" / "figures"))
