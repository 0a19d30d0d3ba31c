"""What a process knows of its place in the server: who the supervisor is, and which worker this is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, TypeAlias

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError

# A variable of the environment that has the options of uWSGI's configuration, as `write_options` writes them. The command
# `run-uwsgi` sets it.
OPTIONS_VARIABLE: Final = "UWSGIBRIDGE_UWSGI"

# A variable that has what the processes of one supervisor share, as `write_shared` writes it. The supervisor sets it.
SHARED_VARIABLE: Final = "UWSGIBRIDGE_UWSGI_SHARED"

Value: TypeAlias = bytes | bool


class Role(Enum):
    """What a process does."""

    LOADING = auto()  # it is none of the others, or is not yet
    WORKER = auto()
    TIMERS = auto()  # it runs timers and crons


@dataclass(slots=True)
class Place:
    """What this process knows; a worker changes it after its fork.

    Attributes:
        settings: of the server.
        options: of uWSGI's configuration.
        supervisor_pid: the process id of the supervisor; 0 where there is none.
        control_socket: of the supervisor; empty where there is none.
        shared_file: the path of the file that holds locks and the time of crons; empty where there is no place for one.
        role: what this process does.
        number: of the worker, from 1 on; else 0.
    """

    settings: Settings
    options: Mapping[str, Value]
    supervisor_pid: int = 0
    control_socket: str = ""
    shared_file: str = ""
    role: Role = field(default=Role.LOADING)
    number: int = 0

    @property
    def processes(self) -> int:
        """How many workers there are at the most."""
        return self.settings.workers_max or self.settings.workers


def read_place(settings: Settings, environment: Mapping[str, str] = os.environ) -> Place:
    """Read what the command and the supervisor have written into the environment.

    Args:
        settings: of the server.
        environment: of this process.
    """
    shared: dict[str, Any] = json.loads(environment.get(SHARED_VARIABLE, "{}"))
    options, is_all = read_options(environment.get(OPTIONS_VARIABLE, "{}"))
    if not is_all:
        options = options_of(settings) | options
    return Place(
        settings,
        options,
        shared.get("pid", 0),
        shared.get("control", ""),
        shared.get("file", ""),
    )


def write_options(options: Mapping[str, Value], *, is_all: bool) -> str:
    """Give the value of `OPTIONS_VARIABLE`.

    Args:
        options: of uWSGI's configuration.
        is_all: whether they are all that there are. Else those come to them that follow from this server's own options.
    """
    texts = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in options.items()
    }
    return json.dumps({"all": texts} if is_all else {"own": texts}, ensure_ascii=False)


def read_options(text: str) -> tuple[dict[str, Value], bool]:
    """Read the value of `OPTIONS_VARIABLE`; give the options, and whether they are all that there are.

    Raises:
        SettingsError: it is not of the form that `write_options` gives it.
    """
    try:
        content: dict[str, dict[str, str | bool]] = json.loads(text)
        options = {
            name: value.encode() if isinstance(value, str) else bool(value)
            for name, value in (content.get("own") or content.get("all") or {}).items()
        }
    except (ValueError, AttributeError) as error:
        raise SettingsError(
            f'the variable {OPTIONS_VARIABLE} is not of the form {{"own": {{"name": "value"}}}}: {error}'
        ) from None
    return options, "all" in content


def options_of(settings: Settings) -> dict[str, Value]:
    """Give what packages look for among the options, where there is no configuration of uWSGI."""
    found: dict[str, Value] = {
        "master": b"true",
        "enable-threads": b"true",
        "processes": str(settings.workers).encode(),
        "threads": str(settings.threads).encode(),
    }
    if settings.request_timeout_seconds:
        # uWSGI counts whole seconds.
        found["harakiri"] = str(max(1, int(settings.request_timeout_seconds))).encode()
    if not settings.preload:
        found["lazy-apps"] = b"true"
    return found


def write_shared(pid: int, control_socket: str, path: str) -> str:
    """Give the value of `SHARED_VARIABLE`.

    Args:
        pid: of the supervisor.
        control_socket: its path; empty where there is none.
        path: of the shared file, which the first process that needs it makes; empty where there is no place for it.
    """
    return json.dumps({"pid": pid, "control": control_socket, "file": path})
