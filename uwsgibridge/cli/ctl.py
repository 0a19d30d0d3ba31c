"""``uwsgibridge ctl``: look at a running supervisor and steer it, over its control socket."""

from __future__ import annotations

import time
from pathlib import Path

import click

from uwsgibridge.cli import ctl_measuring, ctl_requests, ctl_service, ctl_top  # noqa: F401 - each module registers its commands
from uwsgibridge.cli.ctl_group import Asked, command, subcommand, wait_option
from uwsgibridge.cli.status_table import format_status
from uwsgibridge.control.client import (
    CommandRefusedError,
    ControlConnection,
    ControlError,
    ControlTimeoutError,
    ask,
)

__all__ = ["command"]


@subcommand("status")
def _status(asked: Asked) -> None:
    """Show the supervisor and its workers."""
    answer = ask(asked.path, "status")
    asked.show(answer, format_status(answer))


@subcommand("reload")
@wait_option
def _reload(asked: Asked, timeout_seconds: float) -> None:
    """Load the code anew, and wait until it is in service.

    Where the new code can't be loaded the old one stays in service, and the exit status is 1.
    """
    try:
        answer = ask(asked.path, "reload", timeout_seconds=timeout_seconds)
    except ControlTimeoutError as error:
        raise click.ClickException(
            f"{error}: where the reload still goes on, 'ctl status' shows it; "
            "--timeout-seconds waits longer."
        ) from error
    asked.show(answer, "Reloaded: the new code is in service.")


@subcommand("scale")
@click.argument("workers", type=click.IntRange(min=1))
def _scale(asked: Asked, workers: int) -> None:
    """Change the number of workers to WORKERS."""
    asked.show(ask(asked.path, "scale", workers=workers), f"Workers wanted: {workers}.")


@subcommand("stop")
@wait_option
@click.option("--no-wait", is_flag=True, help="Return as soon as the stop has begun.")
def _stop(asked: Asked, timeout_seconds: float, *, no_wait: bool) -> None:
    """Let running requests end, then stop, and wait until that is done."""
    deadline = time.monotonic() + timeout_seconds
    pid = ask(asked.path, "status").get("pid")
    answer = ask(asked.path, "stop")
    if no_wait:
        asked.show(answer, f"The supervisor (pid {pid}) stops.")
        return
    try:
        _wait_until_gone(asked.path, deadline)
    except ControlTimeoutError as error:
        raise click.ClickException(
            f"The supervisor (pid {pid}) still runs after {timeout_seconds:g} s: running requests "
            "have its --graceful-timeout-seconds to end, after its --drain-delay-seconds; --timeout-seconds waits longer."
        ) from error
    asked.show(answer, f"The supervisor (pid {pid}) has stopped.")


@subcommand("stacks")
def _stacks(asked: Asked) -> None:
    """Show what all processes are doing: their stacks."""
    answer = ask(asked.path, "stacks")
    texts = [
        f"== {process['role']}, pid {process['pid']} ==\n{process['stack'].rstrip()}\n"
        for process in answer["processes"]
    ]
    asked.show(answer, "\n".join(texts).rstrip("\n"))


def _wait_until_gone(path: Path, deadline: float) -> None:
    """Wait for the supervisor's end.

    Raises:
        ControlTimeoutError: it has not ended at the deadline.
    """
    while True:
        try:
            with ControlConnection(path) as connection:
                if connection.ask("status").get("state") not in {"draining", "stopping"}:
                    return  # another supervisor has the socket already
                connection.wait_until_closed(deadline - time.monotonic())
        except (ControlTimeoutError, CommandRefusedError):
            raise  # the supervisor is still there
        except ControlError:
            return
