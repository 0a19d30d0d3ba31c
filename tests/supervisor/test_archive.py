"""The archive of modules: what other programs read in it, and that Python imports from it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.supervisor.archive import write_archive

CONTENTS = {
    "package/__init__.py": b"",
    "package/inside.py": b"VALUE = 'found'\n",
    "package/gr\u00f6\u00dfe.py": "VALUE = 'größe'\n".encode(),
    "large.py": b"#" * 200_000 + b"\nfrom package.inside import VALUE\n",
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    members = []
    for number, (name, content) in enumerate(CONTENTS.items()):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(content)
        members.append((str(path), name))
    made = tmp_path / "archive"
    with made.open("wb") as file:
        write_archive(file, members)
    return made


def test_it_is_a_zip_archive(archive: Path) -> None:
    with zipfile.ZipFile(archive) as found:
        assert found.testzip() is None
        assert {name: found.read(name) for name in found.namelist()} == CONTENTS


def test_python_imports_from_it(archive: Path) -> None:
    code = "import large, importlib; print(large.VALUE, len(importlib.import_module('package.größe').VALUE))"
    finished = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code],
        env={"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (finished.stdout, finished.stderr) == ("found 5\n", "")


def test_an_archive_without_files_is_one(tmp_path: Path) -> None:
    with (tmp_path / "empty").open("wb") as file:
        write_archive(file, [])
    with zipfile.ZipFile(tmp_path / "empty") as found:
        assert found.namelist() == []


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "archive").open("wb") as file, pytest.raises(FileNotFoundError):
        write_archive(file, [(str(tmp_path / "gone.py"), "gone.py")])
