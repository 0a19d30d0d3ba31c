"""``uwsgibridge ctl top``: the workers and the oldest requests, each second."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import click

from uwsgibridge.cli.ctl_group import Asked, subcommand
from uwsgibridge.cli.status_table import format_rates
from uwsgibridge.cli.units import seconds
from uwsgibridge.control.client import CommandRefusedError, ask

# More requests than a screen has lines.
_MOST_REQUESTS: Final = 200


@subcommand("top")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="Print so many rounds, one after the other, and end.",
)
@click.option(
    "--interval-seconds",
    type=seconds(least=0.1, most=3600),
    default=1.0,
    show_default=True,
    help="Seconds from one round to the next.",
)
@click.option("--plain", is_flag=True, help="Print rounds also on a terminal, without keys.")
def _top(asked: Asked, count: int | None, interval_seconds: float, *, plain: bool) -> None:
    """Show the workers and the oldest requests each second, until Ctrl-C.

    On a terminal: q ends it, s changes the order of the workers, r asks at once.
    """
    try:
        if count is None and not plain and not asked.as_json and _is_terminal():
            from uwsgibridge.cli import top_screen  # imported here: rich takes its time

            top_screen.run(lambda: _ask(asked), interval_seconds)
        else:
            _print_rounds(asked, count, interval_seconds)
    except KeyboardInterrupt:
        return


def _is_terminal() -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    if importlib.util.find_spec("rich") is None:
        click.echo("uwsgibridge[top] has a live screen with the oldest requests.", err=True)
        return False
    return True


def _ask(asked: Asked) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    status = ask(asked.path, "status")
    try:
        return status, ask(asked.path, "requests", limit=_MOST_REQUESTS)
    except CommandRefusedError:  # of an older version
        return status, {"requests": [], "left_out": 0}


def _print_rounds(asked: Asked, count: int | None, interval_seconds: float) -> None:
    earlier = None
    begun_at = time.monotonic()
    for number in itertools.count(1):
        answer = ask(asked.path, "status")
        click.clear()  # click clears terminals only
        asked.show(answer, format_rates(answer, earlier) + "\n")
        if number == count:
            return
        earlier = answer
        time.sleep(max(0.0, begun_at + number * interval_seconds - time.monotonic()))
