"""Configurations of gunicorn run as they are, and answer as under the real gunicorn where that is installed."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bridge_process import BridgeProcess, environment_of, running_process
from tests.log_events import EVENT_SECONDS
from tests.migration.gunicorn.configurations import APPLICATION, CONFIGURATIONS, Configuration
from tests.migration.gunicorn.conftest import Read
from uwsgibridge.client import ClientError, request
from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.migration import report
from uwsgibridge.migration.gunicorn.table import make_plan

HAS_GUNICORN = importlib.util.find_spec("gunicorn") is not None
# Headers that each server writes by itself.
OWN_HEADERS = {"server", "date", "connection"}

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with the application, and what "surroundings" asks for."""
    (tmp_path / "site_app.py").write_text(APPLICATION)
    inner = tmp_path / "inner"
    (inner / "more").mkdir(parents=True)
    (inner / "more" / "extra_module.py").touch()
    return tmp_path


def ask(server: Path, path: str) -> Answer:
    answer = request(f"unix:{server}", path, timeout_seconds=EVENT_SECONDS)
    headers = {name.lower(): value for name, value in answer.headers}
    return (
        answer.status,
        {name: value for name, value in headers.items() if name not in OWN_HEADERS},
        answer.body,
    )


def arguments_of(it: Configuration, listening: socket.socket) -> tuple[str, ...]:
    app = () if it.app is None else (it.app,)
    bind = f"fd://{listening.fileno()}"
    return (*app, "--bind", bind, "--protocol", "uwsgi", *it.arguments)


@contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """Listen in the place of a server that gets the socket: whoever asks it before it is ready waits."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.set_inheritable(True)
        yield listening


@contextmanager
def running(it: Configuration, directory: Path) -> Iterator[tuple[BridgeProcess, Path]]:
    (directory / "gunicorn.conf.py").write_text(it.text)
    path = directory / "bridge.sock"
    with (
        listening_at(path) as listening,
        running_process(
            "run-gunicorn",
            *arguments_of(it, listening),
            directory=directory,
            environment={**it.environment, "UWSGIBRIDGE_LOG_FORMAT": "json"},
            pass_fds=[listening.fileno()],
        ) as process,
    ):
        yield process, path
        assert process.stop() == 0, process.events.text()


def ask_gunicorn(it: Configuration, directory: Path) -> tuple[list[Answer], str]:
    """Ask the real gunicorn the same; give its answers and its log."""
    path, log = directory / "real.sock", directory / "real.log"
    with listening_at(path) as listening, log.open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--no-control-socket"),
                *arguments_of(it, listening),
                # A SIGTERM is lost on a worker that has just begun, which is killed after this time.
                *("--graceful-timeout", "3"),
            ],
            cwd=directory,
            env={**environment_of({}), **it.environment},
            pass_fds=[listening.fileno()],
            stdout=file,
            stderr=file,
        )
        try:
            answers = [ask(path, one) for one in it.paths]
        except ClientError as error:
            raise AssertionError(log.read_text()) from error
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(EVENT_SECONDS)
            finally:
                process.kill()
    return answers, log.read_text()


def lacking(it: Configuration) -> set[str]:
    """Name the options that the configuration needs and that the table does not have yet."""
    needed = {"--chdir", "--python-path", "--env", "--on-start", "--on-ready"}
    wanted = {option.split(" ")[0] for option in it.options} & needed
    return wanted - {option_name(name) for name in OPTIONS}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration_runs_as_it_is(name: str, site: Path) -> None:
    it = CONFIGURATIONS[name]
    if absent := lacking(it):
        pytest.skip(f"there is no {', '.join(sorted(absent))} yet")
    with running(it, site) as (process, server):
        answers = [ask(server, path) for path in it.paths]
        if it.awaited:
            process.events.wait(**it.awaited)
    text = process.events.text()
    assert [status for status, _, _ in answers] == [200] * len(it.paths)
    for part in it.logged:
        assert part in text
    if not HAS_GUNICORN or not it.is_uwsgi:
        return
    real, log = ask_gunicorn(it, site)
    assert answers == real, log
    for part in it.logged:
        assert part in log


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.usefixtures("all_options")
def test_configuration_becomes_options(
    name: str, site: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = CONFIGURATIONS[name]
    for variable, value in it.environment.items():
        monkeypatch.setenv(variable, value)
    (site / "gunicorn.conf.py").write_text(it.text)
    app = () if it.app is None else (it.app,)
    plan = make_plan(read(*app, "--bind", "unix:a.sock", *it.arguments))
    command = " ".join(" ".join(report.command_lines(plan)).replace("\\", "").split())
    for option in it.options:
        assert option in command
    assert report.describe_refusals(plan) == ""
