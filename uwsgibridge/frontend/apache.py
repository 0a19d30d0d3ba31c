"""Renders a site of Apache 2.4, which speaks uwsgi by mod_proxy_uwsgi.

Source: https://httpd.apache.org/docs/2.4/mod/mod_proxy.html and mod_proxy_uwsgi.html. docs/frontends.md has what was seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uwsgibridge.config.address import TcpAddress, UnixAddress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uwsgibridge.frontend.others import OtherSite

_SECURITY_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
)
# Debian's ports.conf listens at these by itself.
_USUAL_PORTS: Final = frozenset({"80", "443"})


def render_apache(site: OtherSite) -> str:
    """Render a site, for ``sites-available``."""
    modules = ["proxy", "proxy_uwsgi", "headers"]
    if len(site.upstreams) > 1:
        modules += ["proxy_balancer", "slotmem_shm", "lbmethod_byrequests"]
    if site.static:
        modules.append("alias")
    if site.tls is not None:
        modules += ["ssl", "alias"]
    lines = [
        "# A site in front of uwsgibridge, for Apache 2.4:",
        f"#     a2enmod {' '.join(dict.fromkeys(modules))}",
        f"#     uwsgibridge frontend apache ... > /etc/apache2/sites-available/{site.name}.conf",
        f"#     a2ensite {site.name} && apachectl configtest && apachectl graceful",
        "#",
        "# What works: requests, uploads that have a length, and answers, whole or piece by piece as they come.",
        "# What doesn't, and no directive helps:",
        "# - WebSockets: Apache passes the answer 101 on without its Upgrade header. The bridge answers 501 by itself, and",
        "#   logs `refused` with the reason websocket_frontend. Take Nginx for those.",
        "# - An upload in chunks gets 411 from Apache.",
        "# - An answer without Content-Length that breaks off may look complete to the client. Have the application send",
        "#   a Content-Length.",
        "# - X-Accel-Redirect, and so --offload, is Nginx's.",
        "# - The time that a request waits before the bridge accepts it is not known (--max-queue-seconds).",
        "",
        *(f"Listen {it}" for it in _listens(site) if it not in _USUAL_PORTS),
        "",
    ]
    if len(site.upstreams) > 1:
        lines += [*_balancer(site), ""]
    inner = _serving(site)
    if site.tls is not None:
        name = site.server_names[0] if site.server_names else "%{HTTP_HOST}"
        redirect = ["# Method and body stay as they are.", *_redirect(name)]
        lines += [*_host(site, site.listen, redirect), ""]
        inner = [
            "SSLEngine on",
            f'SSLCertificateFile "{site.tls.file}"',
            f'SSLCertificateKeyFile "{site.tls.key}"',
            "SSLProtocol -all +TLSv1.2 +TLSv1.3",
            'Header setifempty Strict-Transport-Security "max-age=31536000"',
            "",
            *inner,
        ]
        lines += _host(site, site.tls.listen, inner)
    else:
        lines += _host(site, site.listen, inner)
    return _text(lines)


def _listens(site: OtherSite) -> tuple[str, ...]:
    return (*site.listen, *(site.tls.listen if site.tls is not None else ()))


def _redirect(name: str) -> list[str]:
    if name.startswith(("%", "*")):
        # An expression of mod_alias (2.4.19). Host is what the client said, without a port of its own.
        return [
            '<LocationMatch "^/">',
            '    Redirect 308 "https://%{SERVER_NAME}%{REQUEST_URI}"',
            "</LocationMatch>",
        ]
    return [f'Redirect 308 "/" "https://{name}/"']


def _host(site: OtherSite, listen: tuple[str, ...], inner: Iterable[str]) -> list[str]:
    addresses = " ".join(it if ":" in it else f"*:{it}" for it in listen)
    names = []
    if site.server_names:
        first, *more = sorted(site.server_names, key=lambda it: it.startswith("*"))
        names = [f"ServerName {first}", *(f"ServerAlias {it}" for it in more)]
        if not first.startswith("*"):
            names += [
                "# SERVER_NAME and SERVER_PORT are this site's, and not what the client's Host header says.",
                "UseCanonicalName On",
                "UseCanonicalPhysicalPort On",
            ]
    return _section(f"VirtualHost {addresses}", [*names, *([""] if names else []), *inner])


def _serving(site: OtherSite) -> list[str]:
    lines = [
        "# Over it, 413. Apache's own limits for headers are 100 of them, of 8190 bytes each. Of more than 64 KiB in all,",
        "# which a uwsgi packet can't hold, Apache answers 500.",
        f"LimitRequestBody {site.client_max_body_bytes}",
        "",
        "# Sent where the application sends none of that name. With `always`, both would be sent.",
        *(f'Header setifempty {name} "{value}"' for name, value in _SECURITY_HEADERS),
        "",
        "# Apache's own answers only: while the bridge does not answer, or takes too long.",
        'ErrorDocument 502 "The application does not answer. Please try again in a moment."',
        'ErrorDocument 503 "The application does not answer. Please try again in a moment."',
        'ErrorDocument 504 "The application takes too long. Please try again in a moment."',
        "",
        "# The application knows a path such as /a%2Fb by Nginx. Apache answers 404, but for:",
        "# AllowEncodedSlashes On",
        "",
    ]
    for static in site.static:
        lines += [
            f"# Apache sends these files. What is no file is 404; Nginx's configuration asks the application {static.url} then.",
            f'ProxyPass "{static.url}" "!"',
            f'Alias "{static.url}" "{static.directory}"',
            f'RedirectMatch 404 "^{static.url.replace(".", "[.]")}(.*/)?[.]"',
            *_section(
                f'Directory "{static.directory}"',
                ["Options -Indexes", "AllowOverride None", "Require all granted"],
            ),
            "",
        ]
    target = f"balancer://{site.name}" if len(site.upstreams) > 1 else _url(site, 0)
    parameters = "" if len(site.upstreams) > 1 else f" {_parameters(site, retry=0)}"
    return [
        *lines,
        "# Each request asks the bridge, also after a connection that was refused."
        if len(site.upstreams) == 1
        else "# A bridge that refuses a connection is left out for a second, and another one is asked.",
        f'ProxyPass "/" "{target}/"{parameters}',
    ]


def _balancer(site: OtherSite) -> list[str]:
    members = [
        f'BalancerMember "{_url(site, number)}" {_parameters(site, retry=1)}'
        for number in range(len(site.upstreams))
    ]
    return _section(f'Proxy "balancer://{site.name}"', members)


def _url(site: OtherSite, number: int) -> str:
    address = site.addresses[number]
    if isinstance(address, UnixAddress):
        # The name tells Apache's workers apart; nobody connects to it.
        return f"unix:{address.path}|uwsgi://{site.name}-{number}"
    assert isinstance(address, TcpAddress)
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"uwsgi://{host}:{address.port}"


def _parameters(site: OtherSite, *, retry: int) -> str:
    connect, read = site.connect_timeout_seconds, site.read_timeout_seconds
    return f"connectiontimeout={connect} timeout={read} retry={retry}"


def _section(head: str, lines: Iterable[str]) -> list[str]:
    return [
        f"<{head}>",
        *(f"    {line}" if line else "" for line in lines),
        f"</{head.partition(' ')[0]}>",
    ]


def _text(lines: Iterable[str]) -> str:
    kept: list[str] = []
    for line in lines:
        if line or (kept and kept[-1]):
            kept.append(line)
    return "\n".join(kept).rstrip("\n") + "\n"
