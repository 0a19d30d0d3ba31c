"""``uwsgibridge ctl requests``: the requests in flight."""

from __future__ import annotations

import shutil
import sys
from typing import Final

import click

from uwsgibridge.cli.ctl_group import Asked, subcommand
from uwsgibridge.cli.request_table import format_requests
from uwsgibridge.cli.units import seconds
from uwsgibridge.control.client import ask

# More rows than a person reads.
_DEFAULT_LIMIT: Final = 100


@subcommand("requests")
@click.option("--stacks", is_flag=True, help="Show where each stands in the application.")
@click.option(
    "--older",
    type=seconds(least=0, most=1_000_000),
    default=0.0,
    metavar="SECONDS",
    help="Only those that have been there for so long.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=10_000),
    default=_DEFAULT_LIMIT,
    show_default=True,
    help="How many to show at the most: the oldest ones.",
)
def command(asked: Asked, older: float, limit: int, *, stacks: bool) -> None:
    """Show the requests in flight, the oldest first."""
    answer = ask(asked.path, "requests", limit=limit, older_seconds=older, stacks=stacks)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    asked.show(answer, format_requests(answer, width=width))
