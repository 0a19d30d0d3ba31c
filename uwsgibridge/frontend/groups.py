"""Renders the upstreams of a site: whom Nginx asks, and what chooses among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uwsgibridge.frontend.balancing import METHODS, is_name
from uwsgibridge.frontend.quoting import quote
from uwsgibridge.frontend.versions import LEAST_TIME, RESOLVE, STICKY, dotted
from uwsgibridge.frontend.writing import block, resolver_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uwsgibridge.frontend.options import Site


def render_groups(site: Site) -> list[str]:
    """Render the upstreams of a site, and what chooses between them; for the http context."""
    canary = site.canary
    lines = [*_group(site, site.name, site.upstreams), ""]
    if canary is None:
        return lines
    return [
        *lines,
        "# The new version. Where none of its bridges answers, the others do.",
        *_group(site, f"{site.name}_canary", canary.upstreams, spare=site.upstreams),
        "",
        f"# {canary.percent:g} of a hundred clients get the new version, and stay there. A client is an address and a browser:",
        "# behind another proxy, set_real_ip_from and real_ip_header have to tell the client's address.",
        *block(
            f'split_clients "$remote_addr $http_user_agent" {chosen_group(site)}',
            [f"{canary.percent:g}% {site.name}_canary;", f"* {site.name};"],
        ),
        "",
    ]


def chosen_group(site: Site) -> str:
    """Name the group that answers a request: the one there is, or a variable that says which."""
    return site.name if site.canary is None else f"${site.name}_group"


def _group(
    site: Site, name: str, upstreams: Sequence[str], *, spare: Sequence[str] = ()
) -> list[str]:
    balancing = site.balancing
    method = METHODS[balancing.method]
    lines: list[str] = []
    if not balancing.is_plain or site.canary is not None:
        # Nginx's workers then agree on who fails, and how many requests each bridge has.
        lines.append(f"zone {name} 64k;")
    if balancing.resolve and site.resolver is not None:
        lines += [
            f"# Nginx ({dotted(RESOLVE)} and later) looks names up again while it runs: bridges may come, go and change their",
            "# addresses. After a start, requests get 502 until DNS has answered.",
            *resolver_lines(site.resolver),
        ]
    if method is not None:
        newer = f"  # a directive of nginx {dotted(LEAST_TIME)} and later"
        lines.append(f"{method};{newer if balancing.method == 'least-time' else ''}")
    lines += [_server(site, one) for one in upstreams]
    lines += [_server(site, one, "backup") for one in spare]
    if balancing.cookie is not None:
        secure = " secure" if site.tls.enabled else ""
        lines += [
            f"# A client stays at the bridge that it had first (nginx {dotted(STICKY)} and later): the cookie's value is a hash of that",
            "# bridge's address. Before a line that names a method, this line would count for nothing.",
            f"sticky cookie {balancing.cookie} path=/ httponly{secure} samesite=lax;",
        ]
    return block(f"upstream {name}", lines)


def _server(site: Site, address: str, role: str = "") -> str:
    words = [quote(address)]
    if site.balancing.resolve and is_name(address):
        words.append("resolve")
    if address in site.balancing.drain and not role:
        words.append("drain")
    if role:
        words.append(role)
    return f"server {' '.join(words)};"
