"""Nginx's directives, piece by piece: headers, limits, timeouts, TLS and the params.

Each piece has lines for the server context (`params` and `rate_limit` fit a location, too). Its first line says
what the piece is for. docs/vars.md and docs/nginx.md say what Nginx sends, and what it does with an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uwsgibridge.frontend.cache_piece import render_cache
from uwsgibridge.frontend.groups import chosen_group
from uwsgibridge.frontend.mime_types import COMPRESSED_TYPES, MIME_TYPES
from uwsgibridge.frontend.quoting import quote
from uwsgibridge.frontend.tls_piece import http3_maps, render_tls
from uwsgibridge.frontend.versions import (
    ADD_HEADER_INHERIT,
    MAX_HEADERS,
    OWN_HTTP_HOST,
    dotted,
    has,
)
from uwsgibridge.frontend.writing import INDENT, block, indent, resolver_lines, size, switch

if TYPE_CHECKING:
    from collections.abc import Callable

    from uwsgibridge.frontend.options import Site

# Each header with its variable, and its value where the application sends none.
_SECURITY_HEADERS: Final = (
    ("X-Content-Type-Options", "content_type_options", "nosniff"),
    ("X-Frame-Options", "frame_options", "SAMEORIGIN"),
    ("Referrer-Policy", "referrer_policy", "strict-origin-when-cross-origin"),
)

_ERROR_PAGES: Final = (
    (502, "The application does not answer", "It is being restarted or has failed."),
    (503, "The application is busy", "It cannot take this request now."),
    (504, "The application takes too long", "It has not answered in time."),
)


def _params(site: Site) -> list[str]:
    return [
        "# What the application learns about a request beside its headers. Include it in place of",
        "# uwsgi_params, whose Debian version replaces the Host header by one without its port.",
        "uwsgi_param PATH_INFO $document_uri;",
        "uwsgi_param QUERY_STRING $query_string;",
        "uwsgi_param REQUEST_METHOD $request_method;",
        "uwsgi_param REQUEST_URI $request_uri;",
        "uwsgi_param REQUEST_SCHEME $scheme;",
        "uwsgi_param HTTPS $https if_not_empty;",
        "uwsgi_param SERVER_PROTOCOL $server_protocol;",
        "uwsgi_param SERVER_NAME $server_name;",
        "uwsgi_param SERVER_PORT $server_port;",
        "uwsgi_param SERVER_SOFTWARE nginx/$nginx_version;",
        "uwsgi_param REMOTE_ADDR $remote_addr;",
        "uwsgi_param REMOTE_PORT $remote_port;",
        "uwsgi_param DOCUMENT_ROOT $document_root;",
        "uwsgi_param CONTENT_TYPE $content_type;",
        "uwsgi_param CONTENT_LENGTH $content_length;",
        "# When Nginx sends the request: tells how long it waits for its turn (--max-queue-seconds). The clocks of",
        "# both machines have to agree, to a fraction of a second.",
        "uwsgi_param UWSGIBRIDGE_SENT $msec;",
        "# The request's id, as Nginx's own log can have it: all that the bridge logs of the request has it, too.",
        "uwsgi_param REQUEST_ID $request_id;",
        "# Nginx sends HTTP_HOST by itself, with the port. From nginx 1.29.5 on, it is the host by which Nginx",
        "# has chosen its server. Before, it is the client's Host header, even where the client asks for the URL",
        "# of another host. Where TLS ends in front of Nginx, put after this include: uwsgi_param HTTPS on;",
        "# A client's Proxy header is not passed on (httpoxy).",
        'uwsgi_param HTTP_PROXY "" if_not_empty;',
        *_host_of_http3(site),
    ]


def _host_of_http3(site: Site) -> list[str]:
    if not site.tls.http3 or has(site.nginx_version, OWN_HTTP_HOST):
        return []
    return [
        "# A request of HTTP/3 has no Host header, and this version of Nginx then sends no HTTP_HOST by itself.",
        f"uwsgi_param HTTP_HOST ${site.name}_host;",
    ]


def _next_server(site: Site) -> list[str]:
    # Beside the address: how long to wait for a connection, and whom to ask next, depends on how many bridges there are.
    return [
        "",
        "# Nginx tries another server of the upstream once, and soon; never with a POST, LOCK or PATCH that",
        "# may have been carried out.",
        f"uwsgi_connect_timeout {site.connect_timeout_seconds}s;",
        "uwsgi_next_upstream error timeout;",
        "uwsgi_next_upstream_tries 2;",
        "uwsgi_next_upstream_timeout 10s;",
    ]


def _upstream(site: Site) -> list[str]:
    variable = f"${site.name}_upstream"
    if site.resolver is not None and not site.balancing.resolve:
        return [
            "# Nginx looks the name up again while it runs: the bridge may come back at another address.",
            *resolver_lines(site.resolver),
            f"set {variable} {quote(site.upstreams[0])};",
            *_next_server(site),
        ]
    target = chosen_group(site) if site.needs_group else quote(site.upstreams[0])
    return ["# Where the bridge listens.", f"set {variable} {target};", *_next_server(site)]


def _application(site: Site) -> list[str]:
    return [
        "# Timeouts. The bridge's own, for a body and for a write, are 60 s. They are shorter, so that the bridge",
        "# ends a request first, and logs why. The silence of a WebSocket or of an event stream counts as time",
        "# between two reads. For longer silences, raise uwsgi_read_timeout, or have the application send pings.",
        f"uwsgi_send_timeout {site.send_timeout_seconds}s;",
        f"uwsgi_read_timeout {site.read_timeout_seconds}s;",
        "",
        "# The head of an answer has to fit into the first buffer, or the client gets 502.",
        f"uwsgi_buffer_size {size(site.uwsgi_buffer_bytes)};",
        f"uwsgi_buffers 8 {size(site.uwsgi_buffer_bytes)};",
        "# An answer that is larger than the buffers waits in the application, not in a file on Nginx's disk.",
        "uwsgi_max_temp_file_size 0;",
        f"uwsgi_buffering {switch(site.response_buffering)};",
        "# When on, Nginx collects a slow upload, so that it holds no thread of the application.",
        f"uwsgi_request_buffering {switch(site.request_buffering)};",
    ]


def _limits(site: Site) -> list[str]:
    return [
        "# What a client may send, and how slowly.",
        "server_tokens off;",
        f"client_max_body_size {size(site.client_max_body_bytes)};",
        "client_body_buffer_size 128k;",
        "client_header_timeout 20s;",
        "client_body_timeout 30s;",
        "send_timeout 30s;",
        "keepalive_timeout 65s;",
        "reset_timedout_connection on;",
        "# A line may have up to 8k, and all headers together up to 33k. So they fit into the 65,535 bytes of a",
        "# uwsgi packet, and a client that sends more gets 400, not 500.",
        "client_header_buffer_size 1k;",
        "large_client_header_buffers 4 8k;",
        *(
            [
                f"# A client that sends more headers gets 400 (nginx {dotted(MAX_HEADERS)} and later).",
                f"max_headers {site.max_headers};",
            ]
            if site.max_headers is not None
            else []
        ),
        "# A name with an underscore is dropped: X_User would become the same var as X-User, HTTP_X_USER.",
        "underscores_in_headers off;",
        "# Redirects name no port, because Nginx does not know the published one.",
        "absolute_redirect off;",
    ]


def _security_headers(site: Site) -> list[str]:
    merges = site.nginx_version is not None and site.nginx_version >= ADD_HEADER_INHERIT
    return [
        "# Nginx sends each of these headers where the application sends none of that name.",
        *(
            [
                "# A location with an add_header of its own sends these as well.",
                "add_header_inherit merge;",
            ]
            if merges
            else [
                "# A location inherits them only if it has no add_header of its own. Include this file there, too, or have",
                "# them merged:",
                f"# add_header_inherit merge;  # a directive of nginx {dotted(ADD_HEADER_INHERIT)} and later",
            ]
        ),
        *(
            f"add_header {header} ${site.name}_{variable} always;"
            for header, variable, _value in _SECURITY_HEADERS
        ),
    ]


def header_maps(site: Site, *, encrypted: bool) -> list[str]:
    """Render the variables of `security_headers` and, if encrypted, of `tls`; for the http context."""
    lines = [
        "# Security headers: where the application sends its own value, the variable is empty, and nothing is sent."
    ]
    for header, variable, value in _SECURITY_HEADERS:
        sent = f"$upstream_http_{header.lower().replace('-', '_')}"
        lines += block(f"map {sent} ${site.name}_{variable}", [f'"" {quote(value)};'])
    if encrypted:
        # The text is "on" over TLS where the application sends no such header (RFC 6797, 7.2: never without TLS).
        sent = "$https$upstream_http_strict_transport_security"
        value = f"max-age={site.tls.hsts_seconds}"
        lines += block(f"map {sent} ${site.name}_hsts", [f"on {value};"])
    if site.tls.http3:
        lines += http3_maps(site)
    return lines


def _gzip(_site: Site) -> list[str]:
    return [
        "# Only text is compressed, and nothing that is too small to gain by it.",
        "gzip on;",
        "gzip_vary on;",
        "gzip_proxied any;",
        "gzip_comp_level 5;",
        "gzip_min_length 1024;",
        "gzip_types",
        *indent(COMPRESSED_TYPES[:-1]),
        f"{INDENT}{COMPRESSED_TYPES[-1]};",
    ]


def rate_limit_zone(site: Site) -> list[str]:
    """Render the memory in which `rate_limit` counts; for the http context."""
    rate = site.rate_limit.requests_per_second
    return [
        "# Counts requests for rate_limit.conf, by client address. Behind another proxy, that is the proxy's",
        "# address, unless set_real_ip_from and real_ip_header tell the client's.",
        f"limit_req_zone $binary_remote_addr zone={site.name}_clients:10m rate={rate}r/s;",
    ]


def _rate_limit(site: Site) -> list[str]:
    return [
        "# A client may be over the rate for one burst; after that it gets 429.",
        f"limit_req zone={site.name}_clients burst={site.rate_limit.burst} nodelay;",
        "limit_req_status 429;",
        "limit_req_log_level warn;",
    ]


def _error_pages(site: Site) -> list[str]:
    lines = ["# Only Nginx's own answers. An error page of the application passes unchanged."]
    for status, title, explanation in _ERROR_PAGES:
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f"<h1>{title}</h1><p>{explanation} Please try again in a moment.</p>"
        )
        name = f"@{site.name}_{status}"
        lines += [
            f"error_page {status} {name};",
            *block(f"location {name}", ["default_type text/html;", f"return {status} '{page}';"]),
        ]
    return lines


def mime_types() -> list[str]:
    """Render the content types of static files, for the http context."""
    return [
        # With the default of 1024, Nginx would warn about a table of this size.
        "types_hash_max_size 2048;",
        *block("types", [f"{name} {' '.join(endings)};" for name, endings in MIME_TYPES.items()]),
    ]


# Each piece by the name of its file in a set. Only a site with a cache has `cache`.
PIECES: Final[dict[str, Callable[[Site], list[str]]]] = {
    "params": _params,
    "upstream": _upstream,
    "application": _application,
    "limits": _limits,
    "security_headers": _security_headers,
    "gzip": _gzip,
    "rate_limit": _rate_limit,
    "cache": render_cache,
    "tls": render_tls,
    "error_pages": _error_pages,
}
