"""``uwsgibridge serve``: an application behind Nginx's uwsgi_pass."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from uwsgibridge.cli.options import SectionedCommand, make_settings, settings_options

EXIT_APPLICATION = 3


@click.command(cls=SectionedCommand, short_help="Serve an application to Nginx's uwsgi_pass.")
@click.argument("app", required=False, envvar="UWSGIBRIDGE_APP")
@settings_options()
def command(app: str | None, **values: Any) -> None:
    r"""Serve APP to Nginx's uwsgi_pass, in the foreground.

    APP is module:attribute, a WSGI or an ASGI application; module alone takes its "application" or
    "app". It may be left out where --mount names what to serve.

    \b
    uwsgibridge serve mysite.wsgi:application --bind unix:/run/mysite.sock
    uwsgibridge serve api:create_app --factory --bind 127.0.0.1:3031 --loop uvloop
    uwsgibridge serve mysite.wsgi --mount /api=api:app

    SIGTERM and SIGINT let running requests end and exit with 0; a second one breaks them off. Every
    option can also stand in uwsgibridge.toml, or in the environment as UWSGIBRIDGE_<NAME>.
    """
    # Only here: --help should not wait for trio.
    from uwsgibridge.config.settings import SettingsError
    from uwsgibridge.hosts.loading import ApplicationError
    from uwsgibridge.listener.sockets import BindError
    from uwsgibridge.process import run_process
    from uwsgibridge.serving import WorkerUnfit
    from uwsgibridge.telemetry.logs import make_logger

    settings = make_settings(values)
    try:
        run_process(app, settings, make_logger(settings.log_format, settings.log_level))
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except WorkerUnfit as error:
        raise click.ClickException(f"stopped: {error}") from None
    except BindError as error:
        raise click.ClickException(str(error)) from None
    except ApplicationError as error:
        exit_for_application(error.traceback_text, str(error))


def exit_for_application(traceback_text: str, message: str) -> NoReturn:
    """Show what is wrong with the application, its own traceback first, and exit with 3."""
    if traceback_text:
        click.echo(traceback_text, err=True)
    click.echo(f"Error: {message}", err=True)
    sys.exit(EXIT_APPLICATION)
