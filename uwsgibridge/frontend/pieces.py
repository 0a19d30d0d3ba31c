"""Nginx's directives, piece by piece: headers, limits, timeouts, TLS and the params.

Each piece has lines for the server context (`params` and `rate_limit` fit a location, too). Its first line says
what the piece is for. docs/vars.md and docs/nginx.md say what Nginx sends, and what it does with an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uwsgibridge.frontend.mime_types import COMPRESSED_TYPES, MIME_TYPES
from uwsgibridge.frontend.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uwsgibridge.frontend.options import Site

_INDENT: Final = "    "

# Each header with its variable, and its value where the application sends none.
_SECURITY_HEADERS: Final = (
    ("X-Content-Type-Options", "content_type_options", "nosniff"),
    ("X-Frame-Options", "frame_options", "SAMEORIGIN"),
    ("Referrer-Policy", "referrer_policy", "strict-origin-when-cross-origin"),
)

# In earlier versions, HTTP/2 is a parameter of `listen` (ngx_http_v2_module).
_HTTP2_DIRECTIVE_SINCE: Final = (1, 25, 1)

# Suites of TLS 1.2 with forward secrecy and AEAD. This list does not concern TLS 1.3.
_CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)

_ERROR_PAGES: Final = (
    (502, "The application does not answer", "It is being restarted or has failed."),
    (503, "The application is busy", "It cannot take this request now."),
    (504, "The application takes too long", "It has not answered in time."),
)


def block(head: str, lines: Iterable[str]) -> list[str]:
    """Put lines between braces."""
    return [f"{head} {{", *indent(lines), "}"]


def indent(lines: Iterable[str]) -> list[str]:
    """Move lines one step to the right."""
    return [_INDENT + line if line else line for line in lines]


def _params(_site: Site) -> list[str]:
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
    if site.resolver is not None:
        return [
            "# Nginx looks the name up again while it runs: the bridge may come back at another address.",
            f"resolver {site.resolver} valid=5s ipv6=off;",
            "resolver_timeout 5s;",
            f"set {variable} {quote(site.upstreams[0])};",
            *_next_server(site),
        ]
    target = quote(site.upstreams[0]) if len(site.upstreams) == 1 else site.name
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
        f"uwsgi_buffer_size {_size(site.uwsgi_buffer_bytes)};",
        f"uwsgi_buffers 8 {_size(site.uwsgi_buffer_bytes)};",
        "# An answer that is larger than the buffers waits in the application, not in a file on Nginx's disk.",
        "uwsgi_max_temp_file_size 0;",
        f"uwsgi_buffering {_switch(site.response_buffering)};",
        "# When on, Nginx collects a slow upload, so that it holds no thread of the application.",
        f"uwsgi_request_buffering {_switch(site.request_buffering)};",
    ]


def _limits(site: Site) -> list[str]:
    return [
        "# What a client may send, and how slowly.",
        "server_tokens off;",
        f"client_max_body_size {_size(site.client_max_body_bytes)};",
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
        "# A name with an underscore is dropped: X_User would become the same var as X-User, HTTP_X_USER.",
        "underscores_in_headers off;",
        "# Redirects name no port, because Nginx does not know the published one.",
        "absolute_redirect off;",
    ]


def _security_headers(site: Site) -> list[str]:
    return [
        "# Nginx sends each of these headers where the application sends none of that name. A location inherits",
        "# them only if it has no add_header of its own. Include this file there, too.",
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
        f"{_INDENT}{COMPRESSED_TYPES[-1]};",
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


def _tls(site: Site) -> list[str]:
    tls = site.tls
    return [
        "# TLS; plain HTTP is redirected to it.",
        *_tls_listeners(site),
        f"ssl_certificate {quote(tls.certificate)};",
        f"ssl_certificate_key {quote(tls.certificate_key)};",
        "ssl_protocols TLSv1.2 TLSv1.3;",
        f"ssl_ciphers {':'.join(_CIPHERS)};",
        "ssl_prefer_server_ciphers off;",
        f"ssl_session_cache shared:{site.name}_tls:10m;",
        "ssl_session_timeout 1d;",
        "ssl_session_tickets off;",
        f"add_header Strict-Transport-Security ${site.name}_hsts always;",
        *block('if ($https = "")', ["return 308 https://$host$request_uri;"]),
        "# The application gets these facts about TLS: in WSGI's environ, or in the tls extension of ASGI.",
        "uwsgi_param SSL_PROTOCOL $ssl_protocol if_not_empty;",
        "uwsgi_param SSL_CIPHER $ssl_cipher if_not_empty;",
        "uwsgi_param SSL_CLIENT_VERIFY $ssl_client_verify if_not_empty;",
        "uwsgi_param SSL_CLIENT_S_DN $ssl_client_s_dn if_not_empty;",
        "uwsgi_param SSL_CLIENT_CERT $ssl_client_escaped_cert if_not_empty;",
        *_client_certificates(tls.client_ca),
    ]


def _tls_listeners(site: Site) -> list[str]:
    tls = site.tls
    if site.nginx_version is None or site.nginx_version >= _HTTP2_DIRECTIVE_SINCE:
        return [
            *(f"listen {address} ssl;" for address in tls.listen),
            "http2 on;" if tls.http2 else "# http2 on;  # a directive of nginx 1.25.1 and later",
        ]
    if tls.http2:
        return [f"listen {address} ssl http2;" for address in tls.listen]
    return [
        *(f"listen {address} ssl;" for address in tls.listen),
        f"# listen {tls.listen[0]} ssl http2;  # instead of the line above, for HTTP/2",
    ]


def _client_certificates(authority: str | None) -> list[str]:
    if authority is None:
        return [
            "# Mutual TLS: Nginx asks clients for certificates, and checks them against this authority.",
            "# ssl_client_certificate /etc/nginx/tls/client_ca.pem;",
            "# ssl_verify_client optional;  # or on, to refuse clients without one",
        ]
    return [
        f"ssl_client_certificate {quote(authority)};",
        "ssl_verify_client optional;",
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


# Each piece by the name of its file in a set.
PIECES: Final[dict[str, Callable[[Site], list[str]]]] = {
    "params": _params,
    "upstream": _upstream,
    "application": _application,
    "limits": _limits,
    "security_headers": _security_headers,
    "gzip": _gzip,
    "rate_limit": _rate_limit,
    "tls": _tls,
    "error_pages": _error_pages,
}


def _size(size_bytes: int) -> str:
    for suffix, unit_bytes in (("m", 1024 * 1024), ("k", 1024)):
        if size_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes}{suffix}"
    return str(size_bytes)


def _switch(on: bool) -> str:
    return "on" if on else "off"
