"""Renders the cache of a site: what Nginx keeps of the application's answers, and for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uwsgibridge.frontend.quoting import quote
from uwsgibridge.frontend.writing import size

if TYPE_CHECKING:
    from uwsgibridge.frontend.options import Site

# $host is what Nginx chooses its server by, $http_host what applications make links of. HTTP/3 may have the first alone.
_KEY: Final = "$request_method $scheme $host $http_host $request_uri"
# Each says who asks, or that the answer is no page.
_PRIVATE: Final = ("$http_authorization", "$http_cookie", "$http_upgrade")


def render_cache_path(site: Site) -> list[str]:
    """Render where the cache is, for the http context; nothing for a site without one."""
    cache = site.cache
    if cache is None:
        return []
    zone = f"{site.name}_pages:10m"
    limits = f"max_size={size(cache.max_bytes)} inactive=1h"
    where = f"levels=1:2 keys_zone={zone} {limits} use_temp_path=off"
    return [
        f"uwsgi_cache_path {quote(cache.directory)} {where};",
        "",
    ]


def render_cache(site: Site) -> list[str]:
    """Render the piece `cache`, for a location of the application."""
    assert site.cache is not None
    valid = site.cache.valid_seconds
    private = " ".join(_PRIVATE) + (" $ssl_client_s_dn" if site.tls.client_ca else "")
    return [
        "# Nginx keeps an answer as long as that says by Cache-Control, Expires or X-Accel-Expires. It keeps none with",
        "# Set-Cookie, and honours Vary. An answer that breaks off is not kept: the bridge resets its connection.",
        f"uwsgi_cache {site.name}_pages;",
        "# The method, because an answer to HEAD has no body. The host as Nginx and as the application know it, because",
        "# the application may write it into links. The whole URL, as the client sent it.",
        f'uwsgi_cache_key "{_KEY}";',
        "uwsgi_cache_methods GET HEAD;",
        "# A request that says who asks gets an answer of its own, which is not kept. Any cookie counts. Where only some",
        "# do, name them: $cookie_sessionid in the place of $http_cookie.",
        f"uwsgi_cache_bypass {private};",
        f"uwsgi_no_cache {private};",
        *(
            [
                "# An answer 200 or 301 that does not say how long it holds is kept as well.",
                f"uwsgi_cache_valid 200 301 {valid}s;",
            ]
            if valid is not None
            else []
        ),
        "# With the next line, requests for one page wait for the first of them: good for pages that are kept, while all",
        "# other pages are then answered one after the other.",
        "# uwsgi_cache_lock on;",
    ]
