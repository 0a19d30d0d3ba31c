"""Makes the loggers that gunicorn has, which applications and hooks write to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Final

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
        ValueError, OSError: the configuration of the loggers is wrong, or can't be read.
    """
    _make_own(str(configuration["loglevel"]).lower())
    if not any(configuration[it] for it in ("logconfig", "logconfig_dict", "logconfig_json")):
        return
    # Imported here: most configurations have no loggers of their own.
    import json
    from logging.config import dictConfig, fileConfig
    from pathlib import Path

    dictionary, name = configuration["logconfig_dict"], configuration["logconfig_json"]
    if not dictionary and name:
        dictionary = json.loads(Path(directory, name).read_text("utf-8"))
    if dictionary:
        dictConfig(_base() | dictionary)
    elif configuration["logconfig"]:
        path = Path(directory, configuration["logconfig"])
        fileConfig(
            path,
            defaults={"__file__": str(path), "here": str(path.parent)},
            disable_existing_loggers=False,
        )


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
