"""What hooks of gunicorn get, and when they are called."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.errors import ApplicationError
from uwsgibridge.migration.gunicorn import hooks
from uwsgibridge.migration.gunicorn.known_settings import SETTINGS
from uwsgibridge.migration.gunicorn.loggers import make_loggers, on_load
from uwsgibridge.migration.gunicorn.passed_on import VARIABLE, write_variable
from uwsgibridge.migration.gunicorn.stand_ins import Configuration, Log, Server, Worker

DEFAULTS = {name: known.default for name, known in SETTINGS.items()}

ALL_HOOKS = """
import os
print("printed")
import pathlib

TOLD = pathlib.Path(__file__).with_name("told")


def tell(*words):
    with TOLD.open("a") as file:
        print(*words, file=file)


def pre_fork(server, worker):
    tell("pre_fork")


def post_fork(server, worker):
    tell("post_fork", server.pid, worker.pid == os.getpid(), worker.cfg.workers, os.getcwd())


def post_worker_init(worker):
    tell("post_worker_init", worker.cfg.raw_env, worker.cfg.env, worker.cfg.post_fork is post_fork)


def worker_exit(server, worker):
    tell("worker_exit", server.num_workers, server.proc_name)


def child_exit(server, worker):
    tell("child_exit")


def when_ready(server):
    tell("when_ready", server.pid)
"""


@pytest.fixture(autouse=True)
def _no_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hooks, "_states", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    logger = logging.getLogger("gunicorn.error")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a configuration, and give what tells what its hooks have told."""
    (tmp_path / "gunicorn.conf.py").write_text(ALL_HOOKS)

    def told(*arguments: str, ignored: tuple[str, ...] = ()) -> list[str]:
        value = write_variable(arguments, str(tmp_path), ignored=ignored, server_pid=42)
        monkeypatch.setenv(VARIABLE, value)
        hooks.on_load()
        told = tmp_path / "told"
        with told.open("a") as file:
            print("the application is imported", file=file)
        hooks.on_fork()
        hooks.on_worker_exit()
        return told.read_text().splitlines()

    return told


def test_hooks_of_a_fork_come_before_the_application(told: Any, tmp_path: Path) -> None:
    before = os.getcwd()  # noqa: PTH109
    assert told("site:app", "-w", "3", "-e", "A=1=2", "-n", "site") == [
        "pre_fork",
        f"post_fork 42 True 3 {before}",
        "the application is imported",
        "post_worker_init ['A=1=2'] {'A': '1=2'} True",
        "worker_exit 3 site",
        "child_exit",
    ]


def test_what_the_file_prints_is_not_printed_again(
    told: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    told("site:app")
    assert "printed" not in capfd.readouterr().out


def test_without_the_variable_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ApplicationError, match=f"need the variable {VARIABLE}"):
        hooks.on_load()


def test_with_preload_hooks_of_a_fork_come_after_it(told: Any) -> None:
    assert [it.split()[0] for it in told("site:app", "--preload")] == [
        "the", "pre_fork", "post_fork", "post_worker_init", "worker_exit", "child_exit",
    ]  # fmt: skip


def test_hook_that_is_left_out_is_not_called(told: Any) -> None:
    lines = [it.split()[0] for it in told("site:app", ignored=("post_fork", "child_exit"))]
    assert lines == ["pre_fork", "the", "post_worker_init", "worker_exit"]


def test_without_a_configuration_loggers_are_gunicorns() -> None:
    on_load()
    logger = logging.getLogger("gunicorn.error")
    assert (logger.level, logger.propagate, len(logger.handlers) > 0) == (logging.INFO, False, True)


def test_server_hook_is_called_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(ALL_HOOKS)
    value = write_variable(("site:app",), str(tmp_path), server_pid=42)
    subprocess.run(
        [sys.executable, "-m", "uwsgibridge.migration.gunicorn.hooks", "when_ready"],
        env={**os.environ, VARIABLE: value},
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert (tmp_path / "told").read_text() == "when_ready 42\n"


def test_variable_is_json_that_people_can_read() -> None:
    value = write_variable(("-c", "é.py"), "/srv/site")
    assert value == '{"arguments": ["-c", "é.py"], "start": "/srv/site"}'
    assert json.loads(value)


@pytest.mark.parametrize(
    ("stand_in", "name", "told"),
    [
        (lambda cfg: Worker(cfg, Log()), "sockets",
         "uwsgibridge gives hooks a worker with age, cfg, log, pid, ppid, timeout, and without 'sockets'"),
        (lambda cfg: Server(cfg, Log(), 1), "WORKERS",
         "uwsgibridge gives hooks a server with cfg, log, num_workers, pid, proc_name, and without 'WORKERS'"),
        (lambda _: Log(), "reopen_files", "uwsgibridge gives hooks a log with access_log, critical, debug"),
        (lambda cfg: cfg, "absent", "uwsgibridge gives hooks the settings of gunicorn with access_log_format"),
    ],
)  # fmt: skip
def test_what_a_stand_in_does_not_have_is_said(stand_in: Any, name: str, told: str) -> None:
    with pytest.raises(AttributeError, match=f"^{re.escape(told)}"):
        getattr(stand_in(Configuration(DEFAULTS)), name)


def test_log_writes_lines_of_gunicorns_form(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("gunicorn.error").handlers.clear()
    make_loggers({**DEFAULTS, "loglevel": "WARNING"}, "/")
    log = Log()
    log.info("not this")
    log.warning("a %s", "b")
    err = capsys.readouterr().err
    assert re.fullmatch(
        r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[WARNING\] a b\n", err
    )


@pytest.mark.parametrize("kind", ["logconfig_dict", "logconfig_json", "logconfig"])
def test_loggers_are_configured_as_the_configuration_says(kind: str, tmp_path: Path) -> None:
    name = f"site_{kind}"
    dictionary = {"loggers": {name: {"level": "ERROR"}}, "root": {"level": "WARNING"}}
    (tmp_path / "log.json").write_text(json.dumps(dictionary))
    (tmp_path / "log.ini").write_text(
        f"[loggers]\nkeys = root, site\n[handlers]\nkeys =\n[formatters]\nkeys =\n[logger_root]\nhandlers =\n"
        f"[logger_site]\nqualname = {name}\nlevel = ERROR\nhandlers =\n"
    )
    value = {"logconfig_dict": dictionary, "logconfig_json": "log.json", "logconfig": "log.ini"}[
        kind
    ]
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        make_loggers({**DEFAULTS, kind: value}, str(tmp_path))
        assert logging.getLogger(name).level == logging.ERROR
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("logconfig", "log.ini", "logconfig = log.ini configures no loggers: No such file"),
        (
            "logconfig_dict",
            {"handlers": {}},
            "logconfig_dict configures no loggers: Unable to configure logger 'gunicorn.error': Unable to add handler",
        ),
        ("logconfig_json", "bad.json", "logconfig_json = bad.json configures no loggers: "),
    ],
)
def test_loggers_that_can_t_be_configured_are_said(
    kind: str, value: object, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text("{")
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        with pytest.raises(ApplicationError, match=re.escape(reason)):
            make_loggers({**DEFAULTS, kind: value}, str(tmp_path))
    finally:
        root.handlers[:] = handlers


def test_a_missing_file_of_json_is_passed_over_as_by_gunicorn(tmp_path: Path) -> None:
    make_loggers({**DEFAULTS, "logconfig_json": "missing.json"}, str(tmp_path))
