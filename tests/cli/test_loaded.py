"""What is loaded, and from where: whole processes, with one worker and without, and after a reload."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.forked_command import run_command
from tests.raw_client import ask

SERVE = ("--bind", "unix:s", "--control-socket", "none")

with_each_number_of_workers = pytest.mark.parametrize(
    "workers",
    [("--workers", "0"), ("--workers", "1"), ("--workers", "1", "--preload")],
    ids=" ".join,
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """With a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path).resolve()


def ask_it(directory: Path) -> Any:
    return json.loads(ask(f"unix:{directory}/s").body)


def reload(process: BridgeProcess) -> None:
    process.signal(signal.SIGHUP)
    process.events.wait(event="reloaded")
    process.events.wait(event="stopped")  # the old worker


# A file

FILE = """
import json
import multiprocessing
import os
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor

class Thing:
    def __init__(self):
        self.pid = os.getpid()

def make():
    return Thing()

def app(environ, start_response):
    start_response("200 OK", [])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(METHOD)) as pool:
        thing = pool.submit(make).result(30)
    found = {"name": __name__, "is_here": isinstance(thing, Thing), "is_other": thing.pid != os.getpid()}
    return [json.dumps({**found, "path": sys.path[0], "file": __file__}).encode()]
"""

METHODS = [it for it in ("fork", "spawn", "forkserver") if sys.platform == "linux" or it == "spawn"]


@pytest.mark.parametrize("method", METHODS)
@with_each_number_of_workers
def test_a_file_is_served_and_its_classes_are_known_in_other_processes(
    directory: Path, method: str, workers: tuple[str, ...]
) -> None:
    (directory / "sub").mkdir()
    (directory / "sub" / "app.py").write_text(FILE.replace("METHOD", repr(method)))
    with running_process(
        "serve", "sub/app.py", *SERVE, *workers, "--threads", "1", directory=directory
    ) as process:
        process.events.wait(event="listening")
        expected = {
            "name": "uwsgi_file_sub_app", "is_here": True, "is_other": True, "path": str(directory),
            "file": f"{directory}/sub/app.py",
        }  # fmt: skip
        assert ask_it(directory) == expected
        if "0" not in workers:
            reload(process)
            assert ask_it(directory) == expected
        assert process.stop() == 0


def test_a_file_that_is_relative_to_another_directory_is_mounted(directory: Path) -> None:
    (directory / "below").mkdir()
    (directory / "below" / "app.wsgi").write_text(FILE.replace("METHOD", "'fork'"))
    with running_process(
        "serve", "--mount", "/x=./app.wsgi:app", *SERVE, "--chdir", "below", directory=directory
    ) as process:
        process.events.wait(event="listening")
        found = json.loads(ask(f"unix:{directory}/below/s", "/x/y").body)
        assert found["name"] == "uwsgi_file___app_wsgi"
        assert found["path"] == f"{directory}/below"


def test_a_module_beside_the_file_is_hinted(directory: Path) -> None:
    (directory / "sub").mkdir()
    (directory / "sub" / "helpers.py").write_text("")
    (directory / "sub" / "app.py").write_text("import helpers\n")
    for workers in ("0", "1"):
        status, output = run_command(
            "serve", "sub/app.py", *SERVE, "--workers", workers, directory=directory
        )
        assert status == 3
        assert output.splitlines()[0] == "Traceback (most recent call last):"
        assert f'File "{directory}/sub/app.py", line 1' in output
        assert (
            "helpers lies beside it, and that directory is not on the import path; write --app-dir sub"
            in output
        )


# Another environment

LOOKING = """
import json
import os
import subprocess
import sys

import click
import in_environment
import trio
import uwsgibridge

CHILD = "import in_environment; print(in_environment.WHERE)"

def app(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps({
        "click": getattr(click, "WHERE", None),
        "own": in_environment.WHERE,
        "trio": hasattr(trio, "WHERE"),
        "uwsgibridge": hasattr(uwsgibridge, "WHERE"),
        "child": subprocess.run(
            [sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=30
        ).stdout.strip(),
        "VIRTUAL_ENV": os.environ.get("VIRTUAL_ENV"),
        "beside": "in_environment.beside" in sys.modules,
    }).encode()]
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with an own package, and with other versions of what the server needs itself."""
    made = tmp_path_factory.mktemp("environments") / "env"
    venv.create(made, symlinks=True)
    [packages] = (made / "lib").glob("python*/site-packages")
    for name in ("in_environment", "click", "trio", "uwsgibridge", "websockets", "outcome"):
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text("WHERE = 'environment'\n")
    (packages / "in_environment" / "beside.py").write_text("")
    return made


@with_each_number_of_workers
def test_packages_of_another_environment(
    directory: Path, environment: Path, workers: tuple[str, ...]
) -> None:
    (directory / "looking.py").write_text(LOOKING)
    with running_process(
        "serve", "looking:app", *SERVE, *workers, "--virtualenv", str(environment), "--import-module",
        "in_environment.beside", directory=directory,
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        expected = {
            # This process has read its own command line by click.
            "click": None if "0" in workers else "environment",
            "own": "environment", "trio": False, "uwsgibridge": False, "child": "environment",
            "VIRTUAL_ENV": str(environment), "beside": True,
        }  # fmt: skip
        assert ask_it(directory) == expected
        if "0" not in workers:
            reload(process)
            assert ask_it(directory) == expected


def test_commands_find_the_programs_of_another_environment(
    directory: Path, environment: Path
) -> None:
    (directory / "looking.py").write_text(LOOKING)
    tool = environment / "bin" / "tool-of-the-environment"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text('#!/bin/sh\nprintf %s "$VIRTUAL_ENV" > found\n')
    tool.chmod(0o755)
    with running_process(
        "serve", "looking:app", *SERVE, "--workers", "1", "--virtualenv", str(environment),
        "--on-start", f"exec:{tool.name}", directory=directory,
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        assert (directory / "found").read_text() == str(environment)


def test_an_asgi_application_of_another_environment(directory: Path, environment: Path) -> None:
    (directory / "looking.py").write_text(
        "import in_environment\n"
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': in_environment.WHERE.encode()})\n"
    )
    with running_process(
        "serve",
        "looking:app",
        *SERVE,
        "--virtualenv",
        str(environment),
        "--lifespan",
        "off",
        directory=directory,
    ) as process:
        process.events.wait(event="listening")
        assert ask(f"unix:{directory}/s").body == b"environment"


def test_an_environment_of_another_python_starts_nothing(directory: Path) -> None:
    (directory / "env").mkdir()
    (directory / "env" / "pyvenv.cfg").write_text("version = 3.1.0\n")
    for command in ("serve", "dev"):
        status, output = run_command(
            command, "looking:app", "--virtualenv", "env", directory=directory
        )
        assert status == 2
        assert "Error: --virtualenv env: it is one of Python 3.1, and this is Python 3." in output


def test_an_environment_that_another_python_has_replaced_is_told_at_a_reload(
    directory: Path, environment: Path
) -> None:
    (directory / "looking.py").write_text(
        "import in_environment\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [in_environment.WHERE.encode()]\n"
    )
    link = directory / "env"
    link.symlink_to(environment)
    with running_process(
        "serve", "looking:app", *SERVE, "--workers", "1", "--virtualenv", "env", directory=directory
    ) as process:
        process.events.wait(event="listening")
        link.unlink()
        link.mkdir()
        (link / "pyvenv.cfg").write_text("version = 3.1.0\n")
        process.signal(signal.SIGHUP)
        process.events.wait(event="reload failed: the old code goes on")
        assert "Error: --virtualenv env: it is one of Python 3.1" in process.events.other_text()
        assert "Traceback" not in process.events.other_text()
        assert ask(f"unix:{directory}/s").body == b"environment"


# Directories, and modules beside the application


@with_each_number_of_workers
def test_directories_come_in_their_order(directory: Path, workers: tuple[str, ...]) -> None:
    for name in ("one", "two", "three"):
        (directory / name).mkdir()
        (directory / name / "which.py").write_text(f"WHERE = {name!r}\n")
    (directory / "three" / "app.py").write_text(
        "import json, os, sys, which\n"
        "def fork():\n    pass\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [json.dumps([which.WHERE, [os.path.basename(it) for it in sys.path[:3]]]).encode()]\n"
    )
    with running_process(
        "serve", "app:app", *SERVE, *workers, "--app-dir", "three", "--python-path", "two", "--python-path", "one",
        "--on-fork", "app:fork", directory=directory,
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        assert ask_it(directory) == ["two", ["two", "one", "three"]]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_module_that_fails_ends_the_start(directory: Path, workers: str) -> None:
    (directory / "site_.py").write_text("def app(environ, start_response): pass\n")
    (directory / "broken.py").write_text("raise ValueError('no')\n")
    status, output = run_command(
        "serve",
        "site_:app",
        *SERVE,
        "--workers",
        workers,
        "--import-module",
        "broken",
        directory=directory,
    )
    assert status == 3
    assert "ValueError: no" in output
    assert "Error: importing broken failed (--import-module)" in output
    assert "uwsgibridge" not in output.replace(os.fspath(directory), "")


def test_a_factory_gets_its_arguments(directory: Path) -> None:
    (directory / "site_.py").write_text(
        "def make(*args, **kwargs):\n"
        "    def app(environ, start_response):\n"
        "        start_response('200 OK', [])\n"
        "        return [repr((args, kwargs)).encode()]\n"
        "    return app\n"
    )
    with running_process(
        "serve",
        "site_:make('prod', debug=False)",
        "--mount",
        "/x=site_:make([1])",
        *SERVE,
        directory=directory,
    ) as process:
        process.events.wait(event="listening")
        assert ask(f"unix:{directory}/s").body == b"(('prod',), {'debug': False})"
        assert ask(f"unix:{directory}/s", "/x").body == b"(([1],), {})"
