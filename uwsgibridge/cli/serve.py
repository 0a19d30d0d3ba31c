"""``uwsgibridge serve``: an application behind Nginx's uwsgi_pass."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import click

from uwsgibridge.cli.options import SectionedCommand, make_settings, settings_options
from uwsgibridge.cli.slips import refuse_file
from uwsgibridge.system.collector import rare_collections


@click.command(cls=SectionedCommand, short_help="Serve an application to Nginx's uwsgi_pass.")
@click.argument("app", required=False, envvar="UWSGIBRIDGE_APP")
@settings_options()
def command(app: str | None, **values: Any) -> None:
    """Serve APP to Nginx's uwsgi_pass, in the foreground.

    APP is module:attribute, a WSGI or an ASGI application; module alone takes its "application" or
    "app", and "module:create_app()", in quotes, is the same as module:create_app with --factory. It
    may be left out where --mount names what to serve.

    \b
    uwsgibridge serve mysite.wsgi:application --bind unix:/run/mysite.sock
    uwsgibridge serve api:create_app --factory --bind 127.0.0.1:3031 --loop uvloop
    uwsgibridge serve mysite.wsgi --mount /api=api:app

    SIGTERM and SIGINT let running requests end and exit with 0; a second one breaks them off. Every
    option can also stand in uwsgibridge.toml, or in the environment as UWSGIBRIDGE_<NAME>.
    """  # noqa: D301 - click marks paragraphs with this character
    if app:
        refuse_file(app)
    settings = make_settings(values)
    # Imported here, so that --help does not wait for trio.
    with rare_collections():
        from uwsgibridge.cli.start import fork_spare_template, hold_pid_file, prepare_process
        from uwsgibridge.supervisor.heritage import REHEARSAL_VARIABLE, check_takeover, is_upgrade
        from uwsgibridge.telemetry.failure import show_failure
        from uwsgibridge.telemetry.line_stream import own_standard_error
        from uwsgibridge.telemetry.logs import make_logger

    with show_failure() as outcome, contextlib.ExitStack() as stack:
        if os.environ.get(REHEARSAL_VARIABLE):  # a supervisor has started this for an upgrade
            check_takeover(settings)
            from uwsgibridge.supervisor.rehearsed_start import rehearse_takeover

            logger = make_logger(settings.log_format, settings.log_level)
            rehearse_takeover(app, settings, logger)
        else:
            own_standard_error()
            upgraded = is_upgrade()
            after_bind = prepare_process(settings, upgraded=upgraded)
            spare = None if upgraded else fork_spare_template(settings)
            if spare is not None:
                stack.callback(spare.end)
            stack.enter_context(hold_pid_file(settings, upgraded=upgraded))
            logger = make_logger(
                settings.log_format, settings.log_level, buffer_bytes=settings.log_buffer_bytes
            )
            if settings.workers:
                with rare_collections():
                    from uwsgibridge.supervisor.supervisor import run_supervisor

                run_supervisor(app, settings, logger, after_bind=after_bind, spare=spare)
            else:
                with rare_collections():
                    from uwsgibridge.worker.process import run_process

                run_process(app, settings, logger, after_bind=after_bind)
    sys.exit(outcome.status)
