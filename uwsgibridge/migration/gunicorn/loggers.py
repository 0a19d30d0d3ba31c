"""Makes the loggers that gunicorn has, which applications and hooks write to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from uwsgibridge.errors import ApplicationError

if TYPE_CHECKING:
    from pathlib import Path

ERROR_LOGGER: Final = "gunicorn.error"
ACCESS_LOGGER: Final = "gunicorn.access"

_LEVELS: Final = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
# The form of gunicorn's lines, which programs that read its log know.
_FORM: Final = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
_TIME: Final = "[%Y-%m-%d %H:%M:%S %z]"


def on_load() -> None:
    """Make gunicorn's loggers as they are where no configuration says anything of them."""
    _make_own("info")


def make_loggers(configuration: Mapping[str, Any], directory: str) -> None:
    """Make gunicorn's loggers, and configure all loggers as the configuration says.

    Args:
        configuration: gunicorn's settings loglevel, logconfig, logconfig_dict and logconfig_json.
        directory: that a relative path begins at.

    Raises:
        ApplicationError: the configuration of the loggers is wrong, or can't be read.
    """
    _make_own(str(configuration["loglevel"]).lower())
    if not any(configuration[it] for it in ("logconfig", "logconfig_dict", "logconfig_json")):
        return
    from pathlib import Path

    if configuration["logconfig_dict"]:
        _configure("logconfig_dict", configuration["logconfig_dict"])
    elif configuration["logconfig_json"]:
        file = Path(directory, configuration["logconfig_json"])
        if file.exists():  # else gunicorn passes over it
            _configure(f"logconfig_json = {configuration['logconfig_json']}", file)
    elif configuration["logconfig"]:
        file = Path(directory, configuration["logconfig"])
        _configure(f"logconfig = {configuration['logconfig']}", file)


def _configure(setting: str, source: Mapping[str, Any] | Path) -> None:
    # Imported here: most configurations have no loggers of their own.
    import json
    from logging.config import dictConfig, fileConfig

    try:
        if isinstance(source, Mapping):
            dictConfig(_base() | dict(source))
        elif setting.startswith("logconfig_json"):
            dictConfig(_base() | json.loads(source.read_text("utf-8")))
        else:
            source.open(
                "rb"
            ).close()  # fileConfig takes a missing file for an empty one before Python 3.12
            fileConfig(
                source,
                defaults={"__file__": str(source), "here": str(source.parent)},
                disable_existing_loggers=False,
            )
    except Exception as error:
        raise ApplicationError(f"{setting} configures no loggers: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Give the messages of an error and of those that it comes from; dictConfig tells the reason by the last one."""
    texts = []
    found: BaseException | None = error
    while found is not None:
        text = found.strerror if isinstance(found, OSError) else None
        texts.append(text or str(found) or type(found).__name__)
        found = found.__cause__
    return ": ".join(texts)


def _make_own(level: str) -> None:
    logger = logging.getLogger(ERROR_LOGGER)
    logger.propagate = False
    logger.setLevel(_LEVELS.get(level, logging.INFO))
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(_FORM, _TIME))
        logger.addHandler(handler)
    access = logging.getLogger(ACCESS_LOGGER)
    access.propagate = False
    access.setLevel(logging.INFO)


def _base() -> dict[str, Any]:
    """Give what gunicorn adds to a dictionary that leaves one of these keys out."""
    handlers = {
        name: {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": f"ext://sys.{stream}",
        }
        for name, stream in (("console", "stdout"), ("error_console", "stderr"))
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {
            name: {"level": "INFO", "handlers": [handler], "propagate": True, "qualname": name}
            for name, handler in ((ERROR_LOGGER, "error_console"), (ACCESS_LOGGER, "console"))
        },
        "handlers": handlers,
        "formatters": {
            "generic": {"format": _FORM, "datefmt": _TIME, "class": "logging.Formatter"}
        },
    }
