"""Calls the hooks of a configuration file of gunicorn, at the moments that this server has for them.

A worker calls the functions of this module by ``--on-load``, ``--on-fork`` and ``--on-worker-exit``. Each process that
needs the hooks executes the file anew: what workers run has to see the file as it is at a reload.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from uwsgibridge.errors import ApplicationError
from uwsgibridge.migration.gunicorn.known_settings import SETTINGS
from uwsgibridge.migration.gunicorn.loggers import make_loggers
from uwsgibridge.migration.gunicorn.passed_on import VARIABLE
from uwsgibridge.migration.gunicorn.reading import read_configuration
from uwsgibridge.migration.gunicorn.stand_ins import Configuration, Log, Server, Worker

_COMMANDS: Final = ("on_starting", "when_ready")


@dataclass(slots=True)
class _State:
    """What this process knows.

    Attributes:
        configuration: the settings; they are inherited by workers where a template has read them.
        directory: that gunicorn would run in.
        server_pid: of the supervisor.
        forked: the process that has called post_fork; a worker that is forked later is another one.
    """

    configuration: Configuration
    directory: str
    server_pid: int
    forked: int = field(default=0)


_states: list[_State] = []


def on_load() -> None:
    """Make gunicorn's loggers, and without preload_app call pre_fork and post_fork; the application comes next."""
    state = _state()
    make_loggers(state.configuration.settings, state.directory)
    if not state.configuration.settings["preload_app"]:
        _call_fork_hooks(state)


def on_fork() -> None:
    """Call pre_fork and post_fork, unless `on_load` has called them in this process; then post_worker_init."""
    state = _state()
    if state.forked != os.getpid():
        _call_fork_hooks(state)
    _call(state, "post_worker_init", _worker(state))


def on_worker_exit() -> None:
    """Call worker_exit, then child_exit."""
    state = _state()
    server, worker = _server(state), _worker(state)
    _call(state, "worker_exit", server, worker)
    _call(state, "child_exit", server, worker)


def main(name: str) -> None:
    """Call a hook of the server, in a process of its own.

    Args:
        name: of the hook: on_starting or when_ready.
    """
    assert name in _COMMANDS
    state = _state()
    make_loggers(state.configuration.settings, state.directory)
    _call(state, name, _server(state))


def _call_fork_hooks(state: _State) -> None:
    state.forked = os.getpid()
    server, worker = _server(state), _worker(state)
    _call(state, "pre_fork", server, worker)
    _call(state, "post_fork", server, worker)


def _call(state: _State, name: str, *arguments: object) -> None:
    hook = state.configuration.settings[name]
    if hook is not None:
        hook(*arguments)


def _server(state: _State) -> Server:
    return Server(state.configuration, Log(), state.server_pid)


def _worker(state: _State) -> Worker:
    return Worker(state.configuration, Log())


def _state() -> _State:
    if not _states:
        _states.append(_read())
    return _states[0]


def _read() -> _State:
    try:
        text = os.environ[VARIABLE]
    except KeyError:
        raise ApplicationError(
            f"hooks of gunicorn's configuration need the variable {VARIABLE} in the environment, which says where that is: "
            "uwsgibridge convert and run-gunicorn --explain write its value"
        ) from None
    content = json.loads(text)
    start = content["start"]
    # What the file prints was printed when the server was started.
    with _in_directory(start), contextlib.redirect_stdout(io.StringIO()):
        reading = read_configuration(content["arguments"], os.environ, start)
    ignored = content.get("ignored", ())
    values = {
        name: known.default if name in ignored else reading.value(name)
        for name, known in SETTINGS.items()
    }
    return _State(Configuration(values), reading.directory, content.get("pid", os.getppid()))


@contextlib.contextmanager
def _in_directory(path: str) -> Iterator[None]:
    """Run in a directory: the file may use relative paths of the one in which gunicorn is started."""
    before = os.getcwd()  # noqa: PTH109 - its text is what chdir takes
    try:
        os.chdir(path)
    except OSError:  # the user of the workers may not enter it
        yield
        return
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    main(sys.argv[1])
