"""``uwsgibridge ctl config``, ``reopen`` and ``kill``: a service's options, its log files, one of its workers."""

from __future__ import annotations

from typing import Any

import click

from uwsgibridge.cli.ctl_group import Asked, pid_argument, subcommand, wait_option
from uwsgibridge.control.client import ControlTimeoutError, ask


@subcommand("config")
@click.option("--all", "shows_all", is_flag=True, help="Show those that have their default, too.")
def _config(asked: Asked, *, shows_all: bool) -> None:
    """Show the options in force, and where each came from."""
    answer = ask(asked.path, "config")
    shown = [it for it in answer["options"] if shows_all or it["origin"] != "default"]
    asked.show(answer, _format_options(shown) if shown else "All options have their defaults.")


@subcommand("reopen")
def _reopen(asked: Asked) -> None:
    """Open the log files anew, after they were moved away; as SIGUSR1."""
    answer = ask(asked.path, "reopen")
    asked.show(answer, "\n".join(f"Opened anew: {it}" for it in answer["reopened"]))


@subcommand("kill")
@pid_argument
@click.option("--now", is_flag=True, help="Break its requests off.")
@wait_option
def _kill(asked: Asked, pid: int, timeout_seconds: float, *, now: bool) -> None:
    """End the worker PID, which is replaced at once: its requests may end, and nothing new comes to it."""
    try:
        answer = ask(asked.path, "kill", pid=pid, now=now, timeout_seconds=timeout_seconds)
    except ControlTimeoutError as error:
        raise click.ClickException(
            f"{error}: the worker still drains, as 'ctl requests' shows; --timeout-seconds waits "
            "longer, --now breaks its requests off."
        ) from error
    asked.show(answer, f"The worker {pid} has ended.")


def _format_options(options: list[dict[str, Any]]) -> str:
    rows = [(it["option"], _format_value(it["value"]), it["origin"]) for it in options]
    first, second = (max(len(row[number]) for row in rows) for number in (0, 1))
    second = min(second, 40)
    return "\n".join(
        f"{name:<{first}}  {value:<{second}}  {origin}" for name, value, origin in rows
    )


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value == "" else str(value)
