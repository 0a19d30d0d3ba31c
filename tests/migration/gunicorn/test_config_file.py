"""A configuration file is executed as gunicorn does, and its failures are told with their lines."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.gunicorn.config_file import execute_file
from uwsgibridge.migration.gunicorn.file_error import FileError


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "__config__", raising=False)


def write(directory: Path, text: str, name: str = "gunicorn.conf.py") -> None:
    (directory / name).write_text(text)


def test_file_knows_its_name_and_its_place(tmp_path: Path) -> None:
    write(tmp_path, "place = __file__\nmodule = __name__\nclass Thing: pass\n")
    found = execute_file("gunicorn.conf.py", str(tmp_path))
    assert found.names["place"] == str(tmp_path / "gunicorn.conf.py")
    assert found.names["module"] == "__config__"
    assert sys.modules["__config__"].__dict__ is found.names
    assert found.source == "gunicorn.conf.py"


def test_nothing_is_written_beside_the_file(tmp_path: Path) -> None:
    write(tmp_path, "workers = 3\n")
    execute_file("gunicorn.conf.py", str(tmp_path))
    assert [it.name for it in tmp_path.iterdir()] == ["gunicorn.conf.py"]


def test_file_is_executed_as_it_is_now(tmp_path: Path) -> None:
    for count in (3, 4):
        write(tmp_path, f"workers = {count}\n")
        assert execute_file("gunicorn.conf.py", str(tmp_path)).names["workers"] == count


@pytest.mark.parametrize("location", ["settings.cfg", "file:settings.cfg", "./settings.cfg"])
def test_file_may_have_any_name(location: str, tmp_path: Path) -> None:
    write(tmp_path, "workers = 3\n", "settings.cfg")
    assert execute_file(location, str(tmp_path)).names["workers"] == 3


def test_configuration_may_be_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "workers = 3\n", "site_settings_of_gunicorn.py")
    monkeypatch.syspath_prepend(tmp_path)
    found = execute_file("python:site_settings_of_gunicorn", str(tmp_path))
    assert found.names["workers"] == 3
    assert found.lines["workers"] == 1
    assert found.source == "python:site_settings_of_gunicorn"


def test_last_line_that_binds_a_name_is_known(tmp_path: Path) -> None:
    write(
        tmp_path,
        "import os as threads\nworkers = 1\nif workers:\n    workers = 2\n\n\ndef post_fork(server, worker):\n"
        "    timeout = 3\n\n\nsquares = [backlog for backlog in (1,)]\nbind, proc_name = 'a', 'b'\n",
    )
    lines = execute_file("gunicorn.conf.py", str(tmp_path)).lines
    assert lines == {
        "threads": 1, "workers": 4, "post_fork": 7, "squares": 11, "bind": 12, "proc_name": 12,
    }  # fmt: skip


def test_what_the_file_changes_beside_its_names_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_OLD", "1")
    monkeypatch.setenv("SITE_SAME", "1")
    monkeypatch.setenv("SITE_MODE", "before")
    write(
        tmp_path,
        "import os, sys\nos.environ['SITE_MODE'] = 'after'\nos.environ['SITE_SAME'] = '1'\n"
        "del os.environ['SITE_OLD']\nsys.path.insert(0, '/srv/site')\n",
    )
    found = execute_file("gunicorn.conf.py", str(tmp_path))
    assert found.environment == {"SITE_MODE": "after", "SITE_OLD": None}
    assert found.python_path == ("/srv/site",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("workers = 3\nbind = hots\n", "gunicorn.conf.py:2: its code fails: NameError: name 'hots' is not defined"),
        ("\nworkers = = 3\n", "gunicorn.conf.py:2: its code fails: SyntaxError: invalid syntax"),
        ("import absent_module\n", "gunicorn.conf.py:1: its code fails: ModuleNotFoundError: No module named"),
        ("import gunicorn.absent\n", "gunicorn.conf.py:1: its code fails: ModuleNotFoundError: No module named 'gunicorn"),
        ("import sys\nsys.exit(3)\n", "gunicorn.conf.py:2: it ends the process (sys.exit)"),
        ("import json\n\njson.loads('[')\n", "gunicorn.conf.py:3: its code fails: JSONDecodeError"),
        ("\0", "gunicorn.conf.py"),
        ("raise KeyError\n", "gunicorn.conf.py:1: its code fails: KeyError"),
        ("def f():\n    f()\nf()\n", "gunicorn.conf.py:2: its code fails: RecursionError"),
    ],
)  # fmt: skip
def test_failure_is_told_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(FileError) as raised:
        execute_file("gunicorn.conf.py", str(tmp_path))
    assert str(raised.value).startswith(told)
    assert "config_file.py" not in raised.value.traceback_text
    assert "importlib" not in raised.value.traceback_text


def test_traceback_of_a_failure_begins_in_the_file(tmp_path: Path) -> None:
    write(tmp_path, "def count():\n    return int('x')\n\n\nworkers = count()\n")
    with pytest.raises(FileError) as raised:
        execute_file("gunicorn.conf.py", str(tmp_path))
    text = raised.value.traceback_text
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.index("line 5, in <module>") < text.index("line 2, in count")
    assert text.rstrip().endswith("ValueError: invalid literal for int() with base 10: 'x'")


def test_device_without_content_is_a_file_without_settings(tmp_path: Path) -> None:
    assert execute_file("/dev/null", str(tmp_path)).lines == {}


def test_file_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.py").write_bytes(b"#" * 1_048_577)
    for location, told in (
        ("absent.py", "absent.py: there is no such file; -c names it"),
        ("folder", "folder: it is no file"),
        ("pipe", "pipe: it is no file"),
        ("large.py", "large.py: it has over 1048576 bytes"),
        ("a\0b", "'a\\x00b' is no path"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            execute_file(location, str(tmp_path))
        assert str(raised.value).startswith(told)
