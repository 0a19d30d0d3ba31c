"""``uwsgibridge explain``: why did that request fail? Reads Nginx's logs, and the bridge's beside them."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from uwsgibridge.cli.request_table import printable
from uwsgibridge.cli.units import SECONDS

if TYPE_CHECKING:
    from datetime import tzinfo

    from uwsgibridge.explain.gathering import Case, Gathered
    from uwsgibridge.explain.lines import Line

_HELP = """Say why requests failed: what Nginx's log lines mean, why, and what to change.

Each argument is a log of Nginx (error log or access log, .gz as well), "-" for standard input, or one line of
one, in quotes. With --log, the bridge's own log tells the cause.

\b
Exit status:
  0  each line that tells of a failure is explained, or there is none
  1  lines tell of a failure that is not known
  2  a file can't be read, or an option is not valid

\b
Examples:
  uwsgibridge explain /var/log/nginx/error.log --log /var/log/app.log
  uwsgibridge explain 'upstream sent too big header while reading response header from upstream'
  docker compose logs nginx | uwsgibridge explain -
"""

# A line is read up to here, and its rest is left out: a log may have lines without an end.
_LINE_BYTES: Final = 65_536
_STANDARD_INPUT: Final = "-"


@click.command(help=_HELP, short_help="Say why requests failed, from Nginx's log and ours.")
@click.argument("logs", nargs=-1, metavar="[FILE|-|LINE]...")
@click.option(
    "--log",
    "own_logs",
    multiple=True,
    metavar="FILE",
    help="A log of the bridge's, of --log-format json; repeatable, the oldest first.",
)
@click.option(
    "--within-seconds",
    type=SECONDS,
    default=5.0,
    show_default=True,
    help="How many seconds the times of both logs may be apart.",
)
@click.option(
    "--timezone",
    metavar="NAME",
    help="Where Nginx wrote the error log, which has local times: Europe/Berlin, UTC; by default this machine's.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="For a person, or for a program.",
)
def command(
    logs: tuple[str, ...],
    *,
    own_logs: tuple[str, ...],
    within_seconds: float,
    timezone: str | None,
    form: str,
) -> None:
    from uwsgibridge.explain.gathering import Gathered, join_logs
    from uwsgibridge.explain.report import as_text, describe

    if not logs:
        if sys.stdin.isatty():
            raise click.UsageError(
                "name a log of Nginx: uwsgibridge explain /var/log/nginx/error.log"
            )
        logs = (_STANDARD_INPUT,)
    if (*logs, *own_logs).count(_STANDARD_INPUT) > 1:
        raise click.UsageError('"-" is standard input, which can be read once')
    gathered = Gathered(_zone(timezone))
    for log in logs:
        _gather(gathered, log)
    join_logs(gathered.cases, within_seconds)
    if own_logs:
        _look_up(gathered.cases, own_logs, within_seconds)
    if form == "json":
        click.echo(json.dumps(describe(gathered), indent=2))
    else:
        for line in as_text(gathered):
            click.echo(printable(line))
    sys.exit(1 if gathered.unknown_lines else 0)


def _gather(gathered: Gathered, log: str) -> None:
    from uwsgibridge.explain.lines import parse_line

    if log != _STANDARD_INPUT and (line := _as_line(log)):
        gathered.add(line)
        return
    for text in _read(log):
        gathered.add(parse_line(text))


def _as_line(argument: str) -> Line | None:
    """Take an argument for a line, where it is one and no file."""
    from uwsgibridge.explain.catalogue import entry_of_message
    from uwsgibridge.explain.lines import parse_line, parse_message

    if _exists(argument):
        return None
    line = parse_line(argument)
    if line is not None:
        return line
    message = parse_message(argument)
    # A path has no spaces, as a rule, and each message has.
    return message if entry_of_message(message.message) or " " in argument.strip() else None


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False  # too long for a name, or with a byte that none has


def _look_up(cases: list[Case], own_logs: Iterable[str], within_seconds: float) -> None:
    from uwsgibridge.explain.own_log import Lookup

    lookup = Lookup(cases, within_seconds)
    for log in own_logs:
        for text in _read(log):
            lookup.add(text)
    lookup.finish()
    if not lookup.events:
        raise click.UsageError(
            f"--log {' '.join(own_logs)}: there is no event in it; the bridge writes them as JSON with --log-format json"
        )


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise click.UsageError(
            f"--timezone {name}: there is no such time zone; write it as Europe/Berlin or UTC"
        ) from None


def _read(log: str) -> Iterator[str]:
    """Read a log line by line, whatever is in it.

    Raises:
        click.UsageError: it can't be read.
    """
    try:
        with _open(log) as file:
            while line := file.readline(_LINE_BYTES):
                yield line.rstrip(b"\r\n").decode("utf-8", "replace")
                while line and not line.endswith(b"\n"):
                    line = file.readline(_LINE_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise click.UsageError(f"{log} can't be read: {reason}") from None


def _open(log: str) -> contextlib.AbstractContextManager[IO[bytes] | gzip.GzipFile]:
    if log == _STANDARD_INPUT:
        return contextlib.nullcontext(sys.stdin.buffer)
    if log.endswith(".gz"):
        return gzip.open(log, "rb")
    return Path(log).open("rb")
