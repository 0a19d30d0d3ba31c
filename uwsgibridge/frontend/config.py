"""Renders Nginx configurations: one file to print, a set of files to install, one for a private Nginx.

All configurations are put together from the same pieces, so that a deployment, `dev` and the tests run with the
same directives. In a set, each piece is a file of its own, which an `include` line switches on and off. Nginx 1.22
and later understand them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from uwsgibridge.frontend import pieces
from uwsgibridge.frontend.cache_piece import render_cache_path
from uwsgibridge.frontend.groups import chosen_group, render_groups
from uwsgibridge.frontend.options import Site, StaticDirectory, StatusLocation, Tls
from uwsgibridge.frontend.quoting import quote
from uwsgibridge.frontend.tls_piece import render_issuer
from uwsgibridge.frontend.writing import block

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import PurePath

# What `compose.yaml` deploys: 127.0.0.11 is Docker's own DNS server, in every container.
COMPOSE_SITE: Final = Site(
    upstreams=("bridge:3031",),
    resolver="127.0.0.11",
    listen=("8080",),
    tls=Tls(listen=("8443",)),
    static=(StaticDirectory("/static/", "/srv/static/"),),
)
# The same site over a unix socket in a directory that both containers share.
_COMPOSE_UNIX_SITE: Final = replace(
    COMPOSE_SITE, upstreams=("unix:/run/uwsgibridge/app.sock",), resolver=None
)
# The address that the container's health check asks; it is not published.
_HEALTH_LISTEN: Final = "127.0.0.1:8081"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateFiles:
    """Where a private Nginx writes its files, and as which user it runs.

    Args:
        directory: an existing directory for this Nginx alone; it writes nowhere else.
        ready_socket: path of a unix socket that answers 204 as soon as requests are served.
        account: user and group for the workers of an Nginx that root starts, else None.
        worker_processes: how many workers Nginx has.
    """

    directory: PurePath
    ready_socket: PurePath
    account: tuple[str, str] | None = None
    worker_processes: int = 1


def render_site(site: Site) -> str:
    """Render everything for one site as one file, to be included in the http context."""
    head = [
        "# A site in front of uwsgibridge, for the http context: put it into /etc/nginx/conf.d/, for example."
    ]
    return _text([*head, "", *_site(site, included=False)])


def render_site_files(site: Site) -> dict[str, str]:
    """Render one site as a set of files.

    Returns:
        The text of each file by its path below Nginx's configuration directory, ``/etc/nginx``.
    """
    head = ["# A site in front of uwsgibridge. Lines that are commented out can be switched on."]
    return {
        f"conf.d/{site.name}.conf": _text([*head, "", *_site(site, included=True)]),
        **{
            _piece_path(site, name): _text(render(site))
            for name, render in pieces.PIECES.items()
            if name != "cache" or site.cache is not None
        },
    }


def render_compose_files() -> dict[str, str]:
    """Render what stands in the project's ``nginx/``: the whole configuration of a container.

    Returns:
        The text of each file by its path below ``/etc/nginx``.
    """
    site = COMPOSE_SITE
    return {
        "nginx.conf": _text(_container(site)),
        f"{site.name}/mime_types.conf": _text(pieces.mime_types()),
        f"{site.name}/upstream_unix.conf": _text(pieces.PIECES["upstream"](_COMPOSE_UNIX_SITE)),
        **render_site_files(site),
    }


def render_private(site: Site, private: PrivateFiles, directives: str = "") -> str:
    """Render a whole configuration that needs no root and writes below one directory.

    Args:
        site: the site to serve.
        private: where Nginx writes its files.
        directives: further lines for the ``server`` block of the site; only their indentation is changed.
    """
    directory = private.directory
    lines = [
        "daemon off;",
        f"worker_processes {private.worker_processes};",
        f"pid {quote(str(directory / 'nginx.pid'))};",
        f"error_log {quote(str(directory / 'error.log'))} info;",
        # Level `warn` would have a line for each upload that is larger than Nginx's buffer.
        "error_log stderr error;",
    ]
    if private.account is not None:
        user, group = private.account
        lines.append(f"user {quote(user)} {quote(group)};")
    http = [
        *pieces.mime_types(),
        "default_type application/octet-stream;",
        "access_log off;",
        *_temporary_paths(str(directory)),
        "",
        *block("server", [f"listen {quote(f'unix:{private.ready_socket}')};", "return 204;"]),
        "",
        *_site(site, included=False, directives=directives.splitlines()),
    ]
    return _text([*lines, *block("events", ["worker_connections 1024;"]), *block("http", http)])


# --- One site -------------------------------------------------------------------------------------


def _site(site: Site, *, included: bool, directives: Sequence[str] = ()) -> list[str]:
    def piece(name: str, *, on: bool = True) -> list[str]:
        if included:
            return [f"{'' if on else '# '}include {_piece_path(site, name)};"]
        return [*pieces.PIECES[name](site), ""] if on else []

    by_variable = included or _by_variable(site)
    # A piece that a set has switched off needs its zones and variables when it is switched on.
    limited = included or site.rate_limit.enabled
    encrypted = included or site.tls.enabled
    application = [
        *piece("rate_limit", on=site.rate_limit.enabled),
        *(piece("cache") if site.cache is not None else []),
        f"uwsgi_pass {f'${site.name}_upstream' if by_variable else chosen_group(site)};",
    ]
    server = [
        *(f"listen {address};" for address in site.listen),
        f"server_name {' '.join(site.server_names)};",
        *piece("tls", on=site.tls.enabled),
        "",
        *piece("limits"),
        *piece("security_headers"),
        *piece("gzip", on=site.gzip),
        *piece("error_pages"),
        *([""] if included else []),
        *(piece("upstream") if by_variable else []),
        *piece("params"),
        *piece("application"),
        *([""] if included else []),
        *directives,
        *block("location /", application),
    ]
    for static in site.static:
        server += ["", *_static(static, site.static_max_age_seconds)]
    if site.static:
        server += ["", *block("location @application", application)]
    for offload in site.offload:
        server += ["", *_offload(offload)]
    if site.status is not None:
        server += ["", *_status(site.status)]
    return [
        *pieces.header_maps(site, encrypted=encrypted),
        "",
        *([*pieces.rate_limit_zone(site), ""] if limited else []),
        *render_cache_path(site),
        *render_issuer(site),
        *(render_groups(site) if site.needs_group or not by_variable else []),
        *block("server", server),
    ]


def _by_variable(site: Site) -> bool:
    """Whether Nginx looks the only name up by a variable, as versions without `resolve` do it."""
    return site.resolver is not None and not site.balancing.resolve


def _static(static: StaticDirectory, max_age_seconds: int) -> list[str]:
    return [
        "# Nginx sends the files that are there. The application answers all other paths.",
        *block(
            f"location {static.url}",
            [
                f"alias {quote(static.directory)};",
                "try_files $uri @application;",
                # `expires`, because an add_header here would drop the headers of the server.
                f"expires {max_age_seconds}s;",
                *block(r"location ~ /\.", ["return 404;"]),
            ],
        ),
    ]


def _offload(offload: StaticDirectory) -> list[str]:
    return [
        "# Only an X-Accel-Redirect of the application reaches these files. A client's own request gets 404.",
        *block(
            f"location {offload.url}",
            [
                "internal;",
                f"alias {quote(offload.directory)};",
                # The bridge names real paths. Nginx refuses a link that was put into such a path later.
                f"disable_symlinks on {quote('from=' + offload.directory)};",
            ],
        ),
    ]


def _status(status: StatusLocation) -> list[str]:
    return [
        "# Figures and the state of the bridge (--status-bind). Behind another proxy all clients have its address: let",
        "# set_real_ip_from and real_ip_header tell the client's, or name the proxy in no line here.",
        *block(
            # With ^~ no location of a regular expression takes these paths.
            f"location ^~ {status.url}",
            [
                *(f"allow {network};" for network in status.allow),
                "deny all;",
                f"uwsgi_pass {quote(status.address)};",
                "uwsgi_read_timeout 10s;",
                "access_log off;",
            ],
        ),
    ]


def _piece_path(site: Site, name: str) -> str:
    # The params are a file beside uwsgi_params, to be included instead of it.
    return f"{site.name}_params" if name == "params" else f"{site.name}/{name}.conf"


# --- The rest of a whole configuration ------------------------------------------------------------


def _container(site: Site) -> list[str]:
    http = [
        f"include {site.name}/mime_types.conf;",
        "default_type application/octet-stream;",
        "",
        "log_format timed '$remote_addr [$time_iso8601] \"$request\" $status $body_bytes_sent '",
        '                 \'"$http_referer" "$http_user_agent" \'',
        "                 '$request_time $upstream_addr $upstream_status $upstream_response_time';",
        "access_log /dev/stdout timed;",
        "",
        "sendfile on;",
        "tcp_nopush on;",
        "server_tokens off;",
        *_temporary_paths("/tmp"),  # noqa: S108 - the container's own tmpfs
        "",
        "# The container's health check asks here. This address is not published.",
        *block("server", [f"listen {_HEALTH_LISTEN};", "access_log off;", "return 204;"]),
        "",
        "include conf.d/*.conf;",
    ]
    return [
        "# For a container: Nginx starts without root, and writes to /tmp and the standard streams alone.",
        "worker_processes auto;",
        "pid /tmp/nginx.pid;",
        "error_log stderr warn;",
        "# At a stop, open event streams and WebSockets are closed in time for Docker's ten seconds.",
        "worker_shutdown_timeout 8s;",
        "",
        *block("events", ["worker_connections 1024;"]),
        "",
        *block("http", http),
    ]


def _temporary_paths(directory: str) -> list[str]:
    # Two of these are used, but Nginx makes the directories of every module that it has.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return [f"{kind}_temp_path {quote(f'{directory}/{kind}')};" for kind in kinds]


def _text(lines: list[str]) -> str:
    kept: list[str] = []
    for line in lines:
        stripped = line.rstrip()
        # Pieces have blank lines: two in a row become one, and one before a closing brace is left out.
        if not stripped and (not kept or not kept[-1]):
            continue
        if stripped.endswith("}") and kept and not kept[-1]:
            kept.pop()
        kept.append(stripped)
    return "\n".join(kept).rstrip("\n") + "\n"
