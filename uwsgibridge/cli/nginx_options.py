"""The options of ``uwsgibridge nginx`` that say what to print, and the site that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from uwsgibridge.cli.site_options import (
    CLIENT_MAX_BODY_BYTES,
    TLS,
    UPSTREAM,
    listen,
    static,
    tls_listen,
)
from uwsgibridge.cli.units import seconds, size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uwsgibridge.frontend.options import Site

_Command = TypeVar("_Command", bound=Callable[..., Any])

# As frontend/balancing.py and frontend/acme.py have them, which are imported only when something is printed.
ROUND_ROBIN: Final = "round-robin"
METHODS: Final = (ROUND_ROBIN, "least-conn", "least-time")
LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"

# Each option that says nothing without another one, by the parameters' names.
_GO_WITH: Final = {
    "status": ("status_location", "status_allow"),
    "canary": ("canary_percent",),
    "cache": ("cache_max_bytes", "cache_valid_seconds"),
    "acme": ("acme_resolver", "acme_contact", "acme_accept_terms"),
}


def site_options(command: _Command) -> _Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def refuse_strays(ctx: click.Context) -> None:
    """Refuse an option that says nothing, because the one that it goes with is missing.

    Raises:
        click.UsageError: there is one.
    """
    for leader, names in _GO_WITH.items():
        for name in names:
            is_given = ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
            if is_given and not ctx.params[leader]:
                raise click.UsageError(f"--{name.replace('_', '-')} goes with --{leader}")


def make_site(chosen: Mapping[str, Any]) -> Site:
    """Make a site of the values of the options.

    Raises:
        OptionError: a value can't go into a configuration.
    """
    from uwsgibridge.frontend.options import (
        Acme,
        Balancing,
        Cache,
        Canary,
        RateLimit,
        Site,
        StaticDirectory,
        StatusLocation,
        Tls,
        parse_version,
    )

    rate = chosen["rate_limit"]
    version = chosen["nginx_version"]
    return Site(
        name=chosen["name"],
        upstreams=chosen["upstreams"],
        resolver=chosen["resolver"],
        listen=chosen["listen"],
        server_names=chosen["server_names"],
        static=tuple(map(StaticDirectory.parse, chosen["static"])),
        offload=tuple(StaticDirectory.parse(it, "--offload") for it in chosen["offload"]),
        status=None
        if chosen["status"] is None
        else StatusLocation(
            address=chosen["status"],
            url=chosen["status_location"],
            allow=chosen["status_allow"],
        ),
        client_max_body_bytes=chosen["client_max_body_bytes"],
        read_timeout_seconds=chosen["read_timeout_seconds"],
        gzip=chosen["gzip"],
        rate_limit=RateLimit()
        if rate is None
        else RateLimit(enabled=True, requests_per_second=rate, burst=2 * rate),
        tls=Tls(
            enabled=chosen["tls"],
            listen=chosen["tls_listen"],
            certificate=chosen["tls_certificate"],
            certificate_key=chosen["tls_certificate_key"],
            http2=chosen["http2"],
            http3=chosen["http3"],
            client_ca=chosen["tls_client_ca"],
        ),
        balancing=Balancing(
            method=chosen["balance"],
            cookie=chosen["sticky"],
            drain=chosen["drain"],
            resolve=chosen["resolve"],
        ),
        canary=Canary(upstreams=chosen["canary"], percent=chosen["canary_percent"])
        if chosen["canary"]
        else None,
        cache=None
        if chosen["cache"] is None
        else Cache(
            directory=chosen["cache"],
            max_bytes=chosen["cache_max_bytes"],
            valid_seconds=chosen["cache_valid_seconds"],
        ),
        acme=None
        if chosen["acme"] is None
        else Acme(
            url=chosen["acme"],
            resolver=chosen["acme_resolver"] or "",
            contact=chosen["acme_contact"],
            accepts_terms=chosen["acme_accept_terms"],
        ),
        max_headers=chosen["max_headers"],
        nginx_version=parse_version(version) if version else None,
    )


_OPTIONS: Final[tuple[Callable[[Any], Any], ...]] = (
    UPSTREAM,
    click.option(
        "--resolver",
        metavar="ADDRESS",
        help="DNS server that is asked for the upstream's name while Nginx runs; in Docker 127.0.0.11.",
    ),
    click.option(
        "--resolve",
        is_flag=True,
        help="With --resolver, have the upstream follow DNS: for names with several addresses, several names, --balance and "
        "--sticky. Needs nginx 1.27.3; without it one name is looked up by a variable.",
    ),
    click.option(
        "--balance",
        type=click.Choice(list(METHODS)),
        default=ROUND_ROBIN,
        show_default=True,
        help="Which bridge gets a request: the next one, the one with the fewest requests, or the one that answers soonest "
        "(nginx 1.31.0).",
    ),
    click.option(
        "--sticky",
        is_flag=False,
        flag_value="route",
        metavar="[COOKIE]",
        help="Keep a client at the bridge that it had first, by a cookie; without a value it is called route. Needs nginx 1.29.6.",
    ),
    click.option(
        "--drain",
        multiple=True,
        metavar="ADDRESS",
        help="With --sticky, an --upstream that gets no new clients, before it is taken away. Repeatable.",
    ),
    click.option(
        "--canary",
        multiple=True,
        metavar="ADDRESS",
        help="A bridge with a new version of the application, for a part of the clients. Repeatable.",
    ),
    click.option(
        "--canary-percent",
        type=float,
        default=5.0,
        show_default=True,
        metavar="N",
        help="How many of a hundred clients get the --canary, in steps of 0.01.",
    ),
    listen("Nginx"),
    click.option(
        "--server-name",
        "-n",
        "server_names",
        multiple=True,
        default=("localhost",),
        show_default=True,
        metavar="HOST",
        help="The site's host name. Repeatable.",
    ),
    static("Nginx"),
    click.option(
        "--offload",
        multiple=True,
        metavar="URL=DIR",
        help="Files that the application names and Nginx sends, as given to serve --offload. Repeatable.",
    ),
    click.option(
        "--status",
        is_flag=False,
        flag_value="127.0.0.1:3032",
        metavar="[ADDRESS]",
        help="Publish the status application that serve has at this --status-bind; without a value 127.0.0.1:3032.",
    ),
    click.option(
        "--status-location",
        default="/-/status/",
        show_default=True,
        metavar="PATH",
        help="The path below which --status publishes its pages, such as /-/status/metrics.",
    ),
    click.option(
        "--status-allow",
        multiple=True,
        default=("127.0.0.1", "::1"),
        show_default=True,
        metavar="NET",
        help="An address or a network that may ask for --status, such as 10.0.0.0/8; all others get 403. Repeatable.",
    ),
    CLIENT_MAX_BODY_BYTES,
    click.option(
        "--max-headers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Headers that a request may have; over it, 400. Needs nginx 1.29.8, which has 1000 where nothing is said.",
    ),
    click.option(
        "--read-timeout-seconds",
        type=seconds(is_whole=True, least=1),
        default=65,
        show_default=True,
        help="How many seconds the application may be silent, also on a WebSocket or an event stream.",
    ),
    click.option("--gzip/--no-gzip", default=True, show_default=True, help="Compress text."),
    click.option(
        "--cache",
        metavar="DIR",
        help="Keep answers in DIR, such as /var/cache/nginx/app: those that say how long they hold, to requests without "
        "Authorization and Cookie.",
    ),
    click.option(
        "--cache-max-bytes",
        type=size(least=1024 * 1024),
        default=1024 * 1024 * 1024,
        show_default="1 GiB",
        help="Bytes that --cache may take on the disk.",
    ),
    click.option(
        "--cache-valid-seconds",
        type=seconds(is_whole=True, least=1),
        help="How many seconds --cache keeps an answer 200 or 301 that does not say it itself; by default none.",
    ),
    click.option(
        "--rate-limit",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests a second that one client address may send; over it and a burst of 2 N, 429.",
    ),
    TLS,
    click.option(
        "--tls-certificate",
        default="/etc/nginx/tls/fullchain.pem",
        show_default=True,
        metavar="FILE",
        help="TLS certificate of the site, with its chain.",
    ),
    click.option(
        "--tls-client-ca",
        metavar="FILE",
        help="Mutual TLS: the authority of client certificates; what they say reaches the application.",
    ),
    click.option(
        "--tls-certificate-key",
        default="/etc/nginx/tls/privkey.pem",
        show_default=True,
        metavar="FILE",
        help="Key of the TLS certificate.",
    ),
    tls_listen("Nginx"),
    click.option("--http2", is_flag=True, help="HTTP/2 over TLS."),
    click.option(
        "--http3", is_flag=True, help="HTTP/3 over TLS and UDP. Needs nginx 1.25.0, built with it."
    ),
    click.option(
        "--acme",
        is_flag=False,
        flag_value=LETS_ENCRYPT,
        metavar="[URL]",
        help="With --tls, have Nginx get its certificate by itself from the ACME server with this directory; without a "
        "value from Let's Encrypt. Needs the module nginx-module-acme.",
    ),
    click.option(
        "--acme-resolver",
        metavar="ADDRESS",
        help="DNS server by which Nginx finds the ACME server, such as 127.0.0.53.",
    ),
    click.option(
        "--acme-contact", metavar="MAIL", help="Mail address that the ACME server may write to."
    ),
    click.option(
        "--acme-accept-terms",
        is_flag=True,
        help="Say to the ACME server that you agree to its terms of service.",
    ),
    click.option(
        "--nginx-version",
        default="",
        metavar="VERSION",
        help="Write what this version understands, such as 1.22.1 (Debian 12); by default a current one.",
    ),
    click.option(
        "--name",
        default="uwsgibridge",
        show_default=True,
        help="Name of the site's files, upstream and zones; give each site its own.",
    ),
)
