"""``uwsgibridge ping``: ask whether a bridge answers, with an exit status for health checks."""

from __future__ import annotations

from typing import Any

import click

from uwsgibridge.cli.tls_options import make_tls, tls_options
from uwsgibridge.cli.units import SECONDS
from uwsgibridge.client import DEFAULT_PING_TIMEOUT_SECONDS, PingError, ping

_HELP = """Ask whether a bridge answers at ADDRESS; for health checks.

ADDRESS is written as for serve's --bind: 127.0.0.1:3031, [::1]:3031 or
unix:/run/app.sock. Any uwsgi server answers, uWSGI too; the bridge does so even
while all its threads are busy, as long as --accept-margin has room. A bridge with
--bind-tls-certificate answers only with --tls, or with --tls-ca and the like.

\b
Exit status:
  0  it answered
  1  it did not; one sentence on standard error says why
  2  ADDRESS or an option is not valid

\b
Examples:
  uwsgibridge ping 127.0.0.1:3031
  uwsgibridge ping unix:/run/app.sock --timeout-seconds 1 --quiet
  uwsgibridge ping backend.example:3031 --tls-ca ca.pem
"""


@click.command(help=_HELP, short_help="Ask whether a bridge answers.")
@click.argument("address")
@click.option(
    "--timeout-seconds",
    type=SECONDS,
    default=DEFAULT_PING_TIMEOUT_SECONDS,
    show_default=True,
    help="How many seconds connecting, TLS and the answer may take together.",
)
@tls_options
@click.option("--quiet", "-q", is_flag=True, help="Print nothing when the bridge answers.")
def command(address: str, timeout_seconds: float, *, quiet: bool, **tls: Any) -> None:
    try:
        elapsed_seconds = ping(address, tls=make_tls(**tls), timeout_seconds=timeout_seconds)
    except PingError as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not quiet:
        click.echo(f"{address} answered in {elapsed_seconds * 1000:.1f} ms")
