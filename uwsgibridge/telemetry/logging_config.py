"""Configures the standard library's logging by the file of ``--log-config``."""

from __future__ import annotations

import configparser
import importlib
import json
import logging.config
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from uwsgibridge.errors import SettingsError

_OPTION: Final = "--log-config"


def configure_logging(file: str) -> None:
    """Configure logging by a file.

    A dictionary leaves loggers that exist already as they are, unless it says ``disable_existing_loggers``: the default of
    `logging.config` would silence asyncio's. ``version`` may be left out.

    Args:
        file: its path.

    Raises:
        SettingsError: the file can't be read, or does not configure logging; the message says where.
    """
    path = Path(file)
    read = _READERS.get(path.suffix.lower())
    try:
        if read is None:
            _configure_by_ini(path)
        else:
            found = read(path.read_text("utf-8"))
            if not isinstance(found, Mapping):
                raise ValueError(f"it holds {type(found).__name__} in place of a dictionary")
            logging.config.dictConfig(
                {"version": 1, "disable_existing_loggers": False, **dict(found)}
            )
    except SettingsError as error:
        raise SettingsError(f"{_OPTION} {file}: {error}") from None
    except Exception as error:  # whatever a handler's own class raises
        raise SettingsError(f"{_OPTION} {file}: {_reason(error)}") from error


def _read_toml(text: str) -> Any:
    import tomllib  # imported here, as other readers are: a file has one form

    return tomllib.loads(text)


def _read_yaml(text: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise SettingsError(
            "YAML needs the package PyYAML: pip install 'uwsgibridge[yaml]'"
        ) from None
    return yaml.safe_load(text)


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    ".toml": _read_toml,
    ".json": json.loads,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}


def _configure_by_ini(path: Path) -> None:
    # fileConfig takes a missing file for an empty one before Python 3.12.
    text = path.read_text("utf-8")
    parser = configparser.ConfigParser(
        # gunicorn gives these names, too.
        {"__file__": str(path), "here": str(path.parent)}
    )
    parser.read_string(text, str(path))
    for section in ("loggers", "handlers", "formatters"):
        if not parser.has_section(section):
            raise ValueError(
                f"there is no section [{section}], which logging.config.fileConfig asks for"
            )
    logging.config.fileConfig(parser, disable_existing_loggers=False)


def _reason(error: BaseException) -> str:
    """Give the messages of an error and of those that it comes from: dictConfig tells the key first, and then the reason."""
    texts: list[str] = []
    found: BaseException | None = error
    while found is not None:
        text = _text_of(found)
        if not any(text in it for it in texts):
            texts.append(text)
        found = found.__cause__
    return ": ".join(texts)


def _text_of(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, KeyError):
        return f"there is no section or key {error}"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON: {error}"
    return " ".join(str(error).split()) or type(error).__name__
