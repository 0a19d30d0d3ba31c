"""What counts where several places set one thing, as gunicorn has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.migration.gunicorn.conftest import Read
from uwsgibridge.migration.errors import ConfigurationError


def test_command_line_goes_before_the_variable_and_the_variable_before_the_file(read: Read) -> None:
    reading = read(
        "-w", "4",
        text="workers = 2\nthreads = 2\ntimeout = 2\n",
        environ={"GUNICORN_CMD_ARGS": "--workers 3 --threads 3", "WEB_CONCURRENCY": "1"},
    )  # fmt: skip
    assert [reading.value(it) for it in ("workers", "threads", "timeout")] == [4, 3, 2]
    places = {it.name: str(it.place) for it in reading.given}
    assert places == {
        "workers": "the command line",
        "threads": "GUNICORN_CMD_ARGS",
        "timeout": "gunicorn.conf.py:3",
    }


def test_list_of_the_command_line_takes_the_place_of_the_files(read: Read) -> None:
    reading = read("-b", "a:1", "-b", "b:2", text="bind = ['c:3']\nraw_env = ['A=1']\n")
    assert reading.value("bind") == ["a:1", "b:2"]
    assert reading.value("raw_env") == ["A=1"]


@pytest.mark.parametrize(
    ("arguments", "variable", "expected"),
    [
        ((), "", 1),
        (("-c", "one.py"), "", 2),
        ((), "-c one.py", 2),
        (("-c", "two.py"), "-c one.py", 3),
        (("-c", " two.py "), "", 3),
        (("-c", ""), "", 1),
    ],
)
def test_file_that_is_named_is_read_in_place_of_the_default(
    arguments: tuple[str, ...], variable: str, expected: int, read: Read, tmp_path: Path
) -> None:
    (tmp_path / "one.py").write_text("workers = 2\n")
    (tmp_path / "two.py").write_text("workers = 3\n")
    reading = read(*arguments, text="workers = 1\n", environ={"GUNICORN_CMD_ARGS": variable})
    assert reading.value("workers") == expected


def test_file_is_looked_for_before_the_directory_is_changed(read: Read, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "gunicorn.conf.py").write_text("workers = 9\n")
    reading = read("--chdir", "inner", text="workers = 2\n")
    assert reading.value("workers") == 2
    assert reading.directory == str(inner)


def test_variables_are_defaults(read: Read) -> None:
    reading = read(environ={"WEB_CONCURRENCY": "5", "PORT": "9000"})
    assert reading.value("workers") == 5
    assert reading.value("bind") == ["0.0.0.0:9000"]
    assert read(text="workers = 2\n", environ={"WEB_CONCURRENCY": "5"}).value("workers") == 2


def test_without_anything_gunicorns_defaults_count(read: Read) -> None:
    reading = read()
    assert reading.app is None
    assert reading.given == ()
    assert reading.value("bind") == ["127.0.0.1:8000"]
    assert reading.value("workers") == 1


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("workers = '0x10'", "workers", 16),
        ("workers = True", "workers", 1),
        ("preload_app = ' True '", "preload_app", True),
        ("bind = ' a:1 '", "bind", ["a:1"]),
        ("bind = ('a:1', ' b:2')", "bind", ["a:1", "b:2"]),
        ("bind = None", "bind", []),
        ("accesslog = None", "accesslog", None),
        ("forwarded_allow_ips = '10.0.0.1, 10.0.0.2'", "forwarded_allow_ips", ["10.0.0.1", "10.0.0.2"]),
        ("user = 33", "user", "33"),
        ("user = 'www-data'", "user", "www-data"),
        ("Workers = 3", "workers", 1),
        ("from base import *", "workers", 6),
        ("def post_fork(server, worker): pass", "post_fork", "post_fork"),
        ("post_fork = 'base.hook'", "post_fork", "hook"),
    ],
)  # fmt: skip
def test_values_are_what_gunicorn_makes_of_them(
    text: str, name: str, expected: Any, read: Read, tmp_path: Path
) -> None:
    (tmp_path / "base.py").write_text("workers = 6\ndef hook(server, worker): pass\n")
    value = read(text=text + "\n").value(name)
    assert (str(value) if name == "post_fork" else value) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("workers = 2.5", "gunicorn.conf.py:1: workers = 2.5: gunicorn does not start with this: it has to be a whole number"),
        ("workers = None", "it has to be a whole number"),
        ("workers = -1", "it has to be a whole number"),
        ("workers = 'auto'", "it has to be a whole number"),
        ("preload_app = 1", "it has to be True or False"),
        ("preload_app = 'yes'", "it has to be True or False"),
        ("bind = 8000", "it has to be a list of texts"),
        ("accesslog = 1", "it has to be a text in quotes, or None"),
        ("post_fork = None", "it has to be a function; leave the line out"),
        ("def post_fork(worker): pass", "the function has to take 2 arguments"),
        ("def on_exit(server, worker): pass", "the function has to take 1 argument"),
        ("post_fork = 'absent.module.hook'", "'absent.module.hook' can't be imported"),
        ("logconfig_dict = 'x'", "it has to be a dictionary"),
        ("import os as config", "gunicorn.conf.py:1: config ="),
    ],
)  # fmt: skip
def test_value_that_gunicorn_does_not_start_with_is_told_with_its_line(
    text: str, told: str, read: Read
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(text=text + "\n")
    assert told in str(raised.value)
    assert str(raised.value).startswith("gunicorn.conf.py:1: ")


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"WEB_CONCURRENCY": "many"}, "WEB_CONCURRENCY=many in the environment: it has to be a whole number"),
        ({"GUNICORN_CMD_ARGS": "--bind 'a"}, "GUNICORN_CMD_ARGS in the environment: No closing quotation"),
        ({"GUNICORN_CMD_ARGS": "--wrokers 4"}, "GUNICORN_CMD_ARGS: unrecognized arguments: --wrokers"),
    ],
)  # fmt: skip
def test_wrong_variable_is_told_by_its_name(environ: dict[str, str], told: str, read: Read) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(environ=environ)
    assert str(raised.value).startswith(told)


def test_only_names_that_nothing_reads_are_unknown(read: Read) -> None:
    text = (
        "import multiprocessing\ncores = multiprocessing.cpu_count()\nworker = cores\n_bind = 1\n"
    )
    assert [it.name for it in read(text=text).unknown] == ["worker"]


def test_reading_holds_nothing_that_another_process_can_not_get(read: Read) -> None:
    import pickle

    text = (
        "import threading\nclass Own(dict): pass\nlogconfig_dict = Own(a=[threading.Lock(), (1, 2)])\n"
        "class Worker: pass\nworker_class = Worker\ndef post_fork(server, worker): pass\n"
    )
    reading = read(text=text)
    assert pickle.loads(pickle.dumps(reading)) == reading
    assert str(reading.value("worker_class")) == "__config__.Worker"
