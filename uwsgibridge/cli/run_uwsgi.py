"""``uwsgibridge run-uwsgi``: a configuration of uWSGI, run as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from uwsgibridge.cli.moving import finish_plan, moving_options
from uwsgibridge.cli.slips import refuse_missing_directory
from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.system.collector import rare_collections

if TYPE_CHECKING:
    from uwsgibridge.migration.plan import Plan

_HELP = """Run an application by its configuration for uWSGI, which stays as it is.

ARGUMENTS are uWSGI's own: a file (app.ini, .yaml, .xml), and options in uWSGI's form. Variables
of the environment that uWSGI reads (UWSGI_PROCESSES) count as well. What can't run here is said
in one message, with its line and with what to do instead; then nothing is started.

\b
uwsgibridge run-uwsgi --ini app.ini
uwsgibridge run-uwsgi app.ini --explain
uwsgibridge run-uwsgi --socket 127.0.0.1:3031 --module mysite.wsgi --processes 4

Options of uwsgibridge that uWSGI has no name for stand in the environment: UWSGIBRIDGE_LOG_FORMAT=json.
"""


@click.command(
    help=_HELP,
    short_help="Run a configuration of uWSGI as it is.",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@moving_options("uWSGI")
def command(arguments: tuple[str, ...], *, explain: bool, ignore: tuple[str, ...]) -> None:
    refuse_missing_directory()
    if not arguments and not any(it.startswith("UWSGI_") for it in os.environ):
        raise click.UsageError("name a configuration: uwsgibridge run-uwsgi app.ini")
    try:
        plan = read_plan(arguments, ignored=ignore, is_started=not explain)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(finish_plan(plan, explain=explain))


def read_plan(
    arguments: Sequence[str], *, ignored: Sequence[str] = (), is_started: bool = False
) -> Plan:
    """Read what the arguments and the environment say, and make a plan of it.

    Args:
        arguments: uWSGI's own.
        ignored: names of options that are left out.
        is_started: whether the plan will be run by this process.

    Raises:
        ConfigurationError: the configuration can't be read.
    """
    with rare_collections():
        from uwsgibridge.migration.uwsgi.passed_on import pass_on
        from uwsgibridge.migration.uwsgi.reading import read_configuration
        from uwsgibridge.migration.uwsgi.table import make_plan
        from uwsgibridge.migration.written import refuse_values

        start = os.getcwd()  # noqa: PTH109 - its text goes on
        reading = read_configuration(arguments, os.environ, start)
        plan = make_plan(
            reading.settings,
            start=start,
            is_root=os.geteuid() == 0,
            ignored=ignored,
            findings=reading.findings,
        )
        refuse_values(plan)
        pass_on(plan, reading.settings, is_started=is_started)
        return plan
