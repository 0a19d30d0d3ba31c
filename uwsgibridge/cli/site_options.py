"""Options that ``uwsgibridge nginx`` and ``uwsgibridge frontend`` have in common: what a site is, whoever serves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import click

from uwsgibridge.cli.units import size

Option: TypeAlias = Callable[[Any], Any]

UPSTREAM: Final[Option] = click.option(
    "--upstream",
    "-u",
    "upstreams",
    multiple=True,
    default=("127.0.0.1:3031",),
    show_default=True,
    metavar="ADDRESS",
    help="Where the bridge listens, as for serve's --bind. Repeatable: requests are spread.",
)

CLIENT_MAX_BODY_BYTES: Final[Option] = click.option(
    "--client-max-body-bytes",
    type=size(least=0),
    default=16 * 1024 * 1024,
    show_default="16 MiB",
    help="Bytes of the largest request body; over it, 413. 0 is no limit.",
)

TLS: Final[Option] = click.option(
    "--tls", is_flag=True, help="Speak TLS on port 443, and redirect plain HTTP to it."
)


def listen(server: str) -> Option:
    """Make ``--listen`` for a server of this name."""
    return click.option(
        "--listen",
        "-l",
        multiple=True,
        default=("80",),
        show_default=True,
        metavar="[HOST:]PORT",
        help=f"Where {server} listens for HTTP, such as 8080 or [::]:80. Repeatable.",
    )


def tls_listen(server: str) -> Option:
    """Make ``--tls-listen`` for a server of this name."""
    return click.option(
        "--tls-listen",
        multiple=True,
        default=("443",),
        show_default=True,
        metavar="[HOST:]PORT",
        help=f"Where {server} listens for TLS. Repeatable.",
    )


def static(server: str) -> Option:
    """Make ``--static`` for a server of this name."""
    return click.option(
        "--static",
        "-s",
        multiple=True,
        metavar="URL=DIR",
        help=f"Files that {server} sends itself, such as /static/=/srv/www/static. Repeatable.",
    )
