"""The access log's own file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.other_users import NOBODY, as_nobody, need_root
from uwsgibridge.errors import LogFileError
from uwsgibridge.telemetry.access_file import AccessFile
from uwsgibridge.telemetry.appending import open_to_append


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    AccessFile(path, 1000).write("line \N{SNOWMAN} \udcff\n")
    assert path.read_bytes() == b"before\nline \xe2\x98\x83 \\udcff\n"


def test_it_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = AccessFile(path, 1000)
    file.write("one\n")
    path.rename(tmp_path / "old")
    file.write("two\n")
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    file.reopen()
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    file.write("three\n")
    assert (tmp_path / "old").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"


def test_old_file_stays_open_where_the_new_one_can_not_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log"
    path.parent.mkdir()
    file = AccessFile(path, 1000)
    path.parent.rename(tmp_path / "elsewhere")
    with pytest.raises(LogFileError, match="--access-log-file"):
        file.reopen()
    file.write("line\n")
    assert (tmp_path / "elsewhere" / "log").read_text() == "line\n"


def test_full_disk_ends_no_request() -> None:
    AccessFile(Path("/dev/full"), 1000).write("line\n")


@need_root
def test_root_makes_it_for_its_user(directory: Path) -> None:
    path = directory / "log"
    os.close(open_to_append("--access-log-file", path, (NOBODY, NOBODY)))
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (NOBODY, NOBODY, 0o640)
    with as_nobody():
        AccessFile(path, 1000).write("line\n")
    assert path.read_text() == "line\n"
