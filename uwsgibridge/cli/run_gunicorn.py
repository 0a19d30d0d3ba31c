"""``uwsgibridge run-gunicorn``: a configuration of gunicorn, run as it is."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from uwsgibridge.cli.moving import finish_plan, moving_options
from uwsgibridge.cli.service import import_for_service
from uwsgibridge.cli.slips import refuse_missing_directory
from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.system.collector import rare_collections

if TYPE_CHECKING:
    from uwsgibridge.migration.plan import Plan

_HELP = """Run an application by its configuration for gunicorn, which stays as it is.

ARGUMENTS are gunicorn's own: the application, and options in gunicorn's form. The file that -c names
counts, or gunicorn.conf.py in this directory, and so do the variables GUNICORN_CMD_ARGS,
WEB_CONCURRENCY and PORT. What can't run here is said in one message, with its line and with what to
do instead; then nothing is started.

\b
uwsgibridge run-gunicorn -c gunicorn.conf.py mysite.wsgi
uwsgibridge run-gunicorn mysite.wsgi --workers 4 --bind unix:/run/mysite.sock
uwsgibridge run-gunicorn -c gunicorn.conf.py mysite.wsgi --explain

gunicorn speaks HTTP, and this server the uwsgi protocol: Nginx gets uwsgi_pass in place of
proxy_pass, see --explain. Options of uwsgibridge that gunicorn has no name for stand in the
environment: UWSGIBRIDGE_LOG_FORMAT=json.
"""


@click.command(
    help=_HELP,
    short_help="Run a configuration of gunicorn as it is.",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@moving_options("gunicorn")
def command(arguments: tuple[str, ...], *, explain: bool, ignore: tuple[str, ...]) -> None:
    refuse_missing_directory()
    try:
        plan = read_plan(arguments, ignored=ignore, is_started=not explain)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(finish_plan(plan, explain=explain))


def read_plan(
    arguments: tuple[str, ...], *, ignored: tuple[str, ...] = (), is_started: bool = False
) -> Plan:
    """Run the configuration file, read the arguments and the environment, and make a plan of it.

    Args:
        arguments: gunicorn's own.
        ignored: names of settings that are left out.
        is_started: whether the plan will be run by this process.

    Raises:
        ConfigurationError: the configuration can't be read.
        click.UsageError: the file has raised something; its traceback is on standard error.
    """
    start = os.getcwd()  # noqa: PTH109 - its text goes on
    with rare_collections():
        from uwsgibridge.cli.reading_apart import ReadingApart

        pending = ReadingApart(arguments, start)
        from uwsgibridge.migration.gunicorn.file_error import FileError
        from uwsgibridge.migration.gunicorn.passed_on import VARIABLE, write_variable
        from uwsgibridge.migration.gunicorn.table import (
            make_plan,
            names_left_out,
            needs_configuration,
        )
        from uwsgibridge.migration.written import refuse_values

        if is_started:
            import_for_service()
    try:
        reading = pending.wait()
    except FileError as error:
        click.echo(error.traceback_text, nl=False, err=True)
        raise click.UsageError(str(error)) from None
    plan = make_plan(reading, ignored=ignored, has_inherited_sockets=_has_inherited_sockets())
    refuse_values(plan)
    if needs_configuration(reading):
        plan.environment[VARIABLE] = write_variable(
            arguments,
            start,
            ignored=names_left_out(ignored),
            server_pid=os.getpid() if is_started else None,
        )
    return plan


def _has_inherited_sockets() -> bool:
    """Whether systemd has opened listening sockets for this process (sd_listen_fds(3))."""
    is_meant = os.environ.get("LISTEN_PID") == str(os.getpid())
    return is_meant and os.environ.get("LISTEN_FDS", "0") != "0"
