"""Chooses the supervisor that a command asks: by its control socket."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import click

from uwsgibridge.control.client import ControlError, ask
from uwsgibridge.control.path import directories_passed_over, find_control_sockets

# The variable of the environment that names the socket.
CONTROL_VARIABLE: Final = "UWSGIBRIDGE_CONTROL_SOCKET"

_CONFIG_FILE: Final = Path("uwsgibridge.toml")

# The value by which `serve` makes no control socket.
_SWITCHED_OFF: Final = "none"


def choose_socket(named: str | None) -> Path:
    """Choose a control socket: the one that is named, else that of ``uwsgibridge.toml`` in this directory, else the only one of this user's.

    Args:
        named: by an option or by `CONTROL_VARIABLE`; None where it is not.

    Raises:
        click.UsageError: the socket is switched off, or the file can't be read.
        click.ClickException: none is named, and none or several are there.
    """
    named = named or _configured_socket()
    if named == _SWITCHED_OFF:
        raise click.UsageError(
            f"The control socket is switched off: it is set to {_SWITCHED_OFF!r} "
            "(--control-socket, UWSGIBRIDGE_CONTROL_SOCKET or control_socket)."
        )
    if named is not None:
        return Path(named)
    found = find_control_sockets()
    if not found:
        passed_over = "".join(f"\nNot looked into: {it}." for it in directories_passed_over())
        raise click.ClickException(
            "No supervisor with a control socket runs as this user: name the socket with "
            f"--control-socket PATH.{passed_over}"
        )
    if len(found) > 1:
        lines = "".join(f"\n  {path}  {_describe(path)}".rstrip() for path in found)
        raise click.ClickException(
            f"Several supervisors run: choose one with --control-socket{lines}"
        )
    return found[0]


def _describe(path: Path) -> str:
    try:
        status = ask(path, "status")
    except ControlError as error:
        return f"({error})"
    return f"(pid {status.get('pid')}, {status.get('name')})"


def _configured_socket() -> str | None:
    try:
        document = tomllib.loads(_CONFIG_FILE.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise click.UsageError(f"{_CONFIG_FILE}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{_CONFIG_FILE}: {error}.") from error
    # A key may be written as its option is.
    path = document.get("control_socket", document.get("control-socket"))
    if path is None or isinstance(path, str):
        return path
    raise click.UsageError(
        f"{_CONFIG_FILE}: --control-socket takes a text in quotes, not {path!r}."
    )
