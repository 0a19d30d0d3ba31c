"""``uwsgibridge convert``: a configuration of uWSGI or gunicorn, written as uwsgibridge.toml."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from uwsgibridge.cli.slips import refuse_missing_directory
from uwsgibridge.migration.errors import ConfigurationError

if TYPE_CHECKING:
    from uwsgibridge.migration.plan import Plan

_HELP = """Write a configuration of uWSGI or gunicorn as uwsgibridge.toml, to standard output.

ARGUMENTS are those of the other server, as for run-uwsgi and run-gunicorn. Each option says in a comment
which line it comes from; what is not carried over stands at the end, with what to do instead. The exit status is 2
where a line would be refused.

\b
uwsgibridge convert app.ini > uwsgibridge.toml
uwsgibridge convert -c gunicorn.conf.py mysite.wsgi > uwsgibridge.toml

A Python file among the arguments means gunicorn, unless an option of uWSGI such as --wsgi-file names it; everything
else means uWSGI. --from says it where that is wrong.
"""

_PYTHON: Final = ".py"
# A long option of both servers, which names a Python file for gunicorn alone.
_OF_BOTH: Final = "config"


@click.command(
    help=_HELP,
    short_help="Write a configuration of uWSGI or gunicorn as TOML.",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.option(
    "--from",
    "server",
    type=click.Choice(("uwsgi", "gunicorn")),
    help="The server that the configuration is for; by default a Python file means gunicorn.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="NAME",
    help="Leave this option of the other server out, where it would be refused. Repeatable.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...], *, server: str | None, ignore: tuple[str, ...]) -> None:
    from uwsgibridge.cli.moving import wrong_value
    from uwsgibridge.migration import report
    from uwsgibridge.migration.written import warn_of_variables

    refuse_missing_directory()
    if not arguments:
        raise click.UsageError("name a configuration: uwsgibridge convert app.ini")
    is_gunicorn = server == "gunicorn" if server else _looks_like_gunicorn(arguments)
    try:
        plan = (_plan_of_gunicorn if is_gunicorn else _plan_of_uwsgi)(arguments, ignore)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    warn_of_variables(plan)
    click.echo("\n".join(report.toml_lines(plan, with_comments=True)))
    hindrances = [it for it in (report.describe_left_out(plan), wrong_value(plan)) if it]
    if hindrances:
        click.echo("\n".join(hindrances), err=True)
        sys.exit(2)


def _looks_like_gunicorn(arguments: tuple[str, ...]) -> bool:
    from uwsgibridge.migration.uwsgi.option_names import OPTION_NAMES

    for before, argument in zip(("", *arguments), arguments, strict=False):
        option = argument.partition("=")[0] if argument.startswith("--") else before
        name = option.removeprefix("--")
        if argument.endswith(_PYTHON) and (name == _OF_BOTH or name not in OPTION_NAMES):
            return True
    return False


def _plan_of_uwsgi(arguments: tuple[str, ...], ignored: tuple[str, ...]) -> Plan:
    from uwsgibridge.cli.run_uwsgi import read_plan

    return read_plan(arguments, ignored=ignored)


def _plan_of_gunicorn(arguments: tuple[str, ...], ignored: tuple[str, ...]) -> Plan:
    from uwsgibridge.cli.run_gunicorn import read_plan

    return read_plan(arguments, ignored=ignored)
