"""What hooks of gunicorn get in the place of its server and its workers."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from uwsgibridge.migration.gunicorn.loggers import ACCESS_LOGGER, ERROR_LOGGER


class _StandIn:
    """An object that has a few attributes of one of gunicorn's, and says so where another one is asked for."""

    _IS = "an object"

    def __getattr__(self, name: str) -> Any:
        known = ", ".join(sorted(it for it in vars(self) if not it.startswith("_")))
        raise AttributeError(
            f"uwsgibridge gives hooks {self._IS} with {known}, and without {name!r}",
            name=name,
            obj=self,
        )


class Log(_StandIn):
    """The methods of gunicorn's logger, which write to the logger ``gunicorn.error``."""

    _IS = "a log"

    def __init__(self) -> None:
        self.error_log = logging.getLogger(ERROR_LOGGER)
        self.access_log = logging.getLogger(ACCESS_LOGGER)
        self.loglevel = self.error_log.level
        for name in ("critical", "error", "warning", "info", "debug", "exception", "log"):
            setattr(self, name, getattr(self.error_log, name))


class Configuration(_StandIn):
    """The settings of gunicorn, with the values that count.

    Args:
        values: of all settings.
    """

    _IS = "the settings of gunicorn"

    def __init__(self, values: Mapping[str, Any]) -> None:
        vars(self).update(values)
        self.settings: Mapping[str, Any] = MappingProxyType(dict(values))
        self.env = dict(entry.split("=", 1) for entry in values["raw_env"] if "=" in entry)
        self.is_ssl = bool(values["certfile"] or values["keyfile"])


class Server(_StandIn):
    """The server, which is the supervisor here.

    Args:
        configuration: the settings.
        log: what hooks write to.
        pid: of the supervisor.
    """

    _IS = "a server"

    def __init__(self, configuration: Configuration, log: Log, pid: int) -> None:
        self.cfg = configuration
        self.log = log
        self.pid = pid
        self.num_workers: int = configuration.settings["workers"]
        self.proc_name: str = configuration.settings["proc_name"] or "gunicorn"


class Worker(_StandIn):
    """A worker, which is this process.

    Args:
        configuration: the settings.
        log: what hooks write to.
    """

    _IS = "a worker"

    def __init__(self, configuration: Configuration, log: Log) -> None:
        self.cfg = configuration
        self.log = log
        self.pid = os.getpid()
        self.ppid = os.getppid()
        # gunicorn counts its workers. Nothing here does: the number of a process grows with each worker as well.
        self.age = self.pid
        self.timeout: int = configuration.settings["timeout"]

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"
