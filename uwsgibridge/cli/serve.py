"""``uwsgibridge serve``: an application behind Nginx's uwsgi_pass."""

from __future__ import annotations

import sys
from typing import Any

import click

from uwsgibridge.cli.options import (
    SectionedCommand,
    make_settings,
    origins_of_values,
    settings_options,
)
from uwsgibridge.cli.service import run_service
from uwsgibridge.cli.slips import refuse_file


@click.command(cls=SectionedCommand, short_help="Serve an application to Nginx's uwsgi_pass.")
@click.argument("app", required=False, envvar="UWSGIBRIDGE_APP")
@settings_options()
def command(app: str | None, **values: Any) -> None:
    """Serve APP to Nginx's uwsgi_pass, in the foreground.

    APP is module:attribute or path/file.py:attribute, a WSGI or an ASGI application; without an
    attribute it is "application" or "app". In quotes, it may be the call of a function that returns it,
    with literals: "module:create_app()", "module:create_app('prod', debug=False)". It
    may be left out where --mount names what to serve.

    \b
    uwsgibridge serve mysite.wsgi:application --bind unix:/run/mysite.sock
    uwsgibridge serve api:create_app --factory --bind 127.0.0.1:3031 --loop uvloop
    uwsgibridge serve mysite.wsgi --mount /api=api:app
    uwsgibridge serve /srv/mysite/app.py --chdir /srv/mysite --env-file /etc/mysite.env

    SIGTERM and SIGINT let running requests end and exit with 0; a second one breaks them off. Every
    option can also stand in uwsgibridge.toml, or in the environment as UWSGIBRIDGE_<NAME>.
    """  # noqa: D301 - click marks paragraphs with this character
    if app:
        refuse_file(app)
    sys.exit(run_service(app, make_settings(values), origins_of_values()))
