"""``uwsgibridge frontend``: print a configuration of Apache or lighttpd that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from uwsgibridge.cli.site_options import (
    CLIENT_MAX_BODY_BYTES,
    TLS,
    UPSTREAM,
    listen,
    static,
    tls_listen,
)
from uwsgibridge.cli.units import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uwsgibridge.frontend.others import OtherSite

_HELP = """Print a configuration of Apache (mod_proxy_uwsgi) or lighttpd (mod_scgi) for a bridge.

Its first lines say how it is switched on, what works behind this server, and what doesn't:
WebSockets need Nginx, for example.

\b
Examples:
  uwsgibridge frontend apache --upstream unix:/run/app.sock --server-name example.org
  uwsgibridge frontend lighttpd --static /static/=/srv/www/static
  uwsgibridge frontend apache --tls --tls-certificate /etc/ssl/a.pem --tls-certificate-key /etc/ssl/a.key
"""


@click.command(help=_HELP, short_help="Print a configuration of Apache or lighttpd that fits.")
@click.argument("server", type=click.Choice(["apache", "lighttpd"]))
@UPSTREAM
@listen("the server")
@click.option(
    "--server-name",
    "-n",
    "server_names",
    multiple=True,
    metavar="HOST",
    help="The site's host name; by default every host. Repeatable.",
)
@static("the server")
@CLIENT_MAX_BODY_BYTES
@click.option(
    "--read-timeout-seconds",
    type=seconds(is_whole=True, least=1),
    default=65,
    show_default=True,
    help="How many seconds the application may be silent, also on an event stream.",
)
@TLS
@click.option(
    "--tls-certificate",
    metavar="FILE",
    help="TLS certificate of the site, with its chain.",
)
@click.option("--tls-certificate-key", metavar="FILE", help="Key of the TLS certificate.")
@tls_listen("the server")
@click.option(
    "--name",
    default="uwsgibridge",
    show_default=True,
    help="Name of the site; give each site its own.",
)
def command(server: str, **chosen: Any) -> None:
    from uwsgibridge.frontend.apache import render_apache
    from uwsgibridge.frontend.lighttpd import render_lighttpd
    from uwsgibridge.frontend.values import OptionError

    try:
        site = _site(chosen)
    except OptionError as error:
        raise click.UsageError(str(error)) from error
    render = render_apache if server == "apache" else render_lighttpd
    click.echo(render(site), nl=False)


def _site(chosen: Mapping[str, Any]) -> OtherSite:
    from uwsgibridge.frontend.options import StaticDirectory
    from uwsgibridge.frontend.others import Certificate, OtherSite

    certificate, key = chosen["tls_certificate"], chosen["tls_certificate_key"]
    if chosen["tls"] and not (certificate and key):
        raise click.UsageError("--tls goes with --tls-certificate and --tls-certificate-key")
    if not chosen["tls"] and (certificate or key):
        raise click.UsageError("--tls-certificate and --tls-certificate-key go with --tls")
    return OtherSite(
        name=chosen["name"],
        upstreams=chosen["upstreams"],
        listen=chosen["listen"],
        server_names=chosen["server_names"],
        static=tuple(map(StaticDirectory.parse, chosen["static"])),
        client_max_body_bytes=chosen["client_max_body_bytes"],
        read_timeout_seconds=chosen["read_timeout_seconds"],
        tls=Certificate(file=certificate, key=key, listen=chosen["tls_listen"])
        if chosen["tls"]
        else None,
    )
