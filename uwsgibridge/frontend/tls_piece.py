"""Renders what encrypts a site: TLS, HTTP/2, HTTP/3, and whence the certificate comes.

Source of what concerns ACME: https://nginx.org/en/docs/http/ngx_http_acme_module.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uwsgibridge.frontend.quoting import quote
from uwsgibridge.frontend.versions import (
    HTTP2_DIRECTIVE,
    OWN_HTTP_HOST,
    SSL_CERTIFICATE_CACHE,
    has,
)
from uwsgibridge.frontend.writing import block

if TYPE_CHECKING:
    from uwsgibridge.frontend.options import Site

# Suites of TLS 1.2 with forward secrecy and AEAD. This list does not concern TLS 1.3.
_CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)


def render_tls(site: Site) -> list[str]:
    """Render the piece `tls`, for the server context."""
    tls = site.tls
    return [
        "# TLS; plain HTTP is redirected to it.",
        *_listeners(site),
        *_http3(site),
        *(_certificate(site) if site.acme is None else _acme_certificate(site)),
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


def _certificate(site: Site) -> list[str]:
    return [
        f"ssl_certificate {quote(site.tls.certificate)};",
        f"ssl_certificate_key {quote(site.tls.certificate_key)};",
    ]


def _http3(site: Site) -> list[str]:
    if not site.tls.http3:
        return []
    return [
        "# HTTP/3, over UDP. Browsers learn of it by Alt-Svc. Of several servers at one address, only one has reuseport.",
        *(f"listen {address} quic reuseport;" for address in site.tls.listen),
        "http3 on;",
        f"add_header Alt-Svc ${site.name}_alt_svc always;",
    ]


def _listeners(site: Site) -> list[str]:
    tls = site.tls
    if has(site.nginx_version, HTTP2_DIRECTIVE):
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


def http3_maps(site: Site) -> list[str]:
    """Render the variables of HTTP/3, for the http context."""
    port = site.tls.listen[0].rpartition(":")[2]
    lines = block(f"map $https ${site.name}_alt_svc", [f"on 'h3=\":{port}\"; ma=86400';"])
    if not has(site.nginx_version, OWN_HTTP_HOST):
        lines += block(f"map $http_host ${site.name}_host", ['"" $host;', "default $http_host;"])
    return lines


def render_issuer(site: Site) -> list[str]:
    """Render who issues the certificates, for the http context; nothing for a site without ACME."""
    acme = site.acme
    if acme is None:
        return []
    return [
        "# Nginx gets its certificate by itself, and renews it. Two things are needed: port 80 of each name leads here,",
        "# and nginx.conf loads the package nginx-module-acme in its first lines:",
        "# load_module modules/ngx_http_acme_module.so;",
        "# By this DNS server Nginx finds the issuer. Where several sites are in one Nginx, only one may have this line.",
        f"resolver {acme.resolver};",
        *block(
            f"acme_issuer {site.name}",
            [
                f"uri {acme.url};",
                *([f"contact {acme.contact};"] if acme.contact else []),
                "# The account's key and the certificates, which nobody else may read.",
                f"state_path /var/cache/nginx/acme-{site.name};",
                "accept_terms_of_service;"
                if acme.accepts_terms
                else "# accept_terms_of_service;  # when you have read the issuer's terms, and agree",
            ],
        ),
        "",
    ]


def _acme_certificate(site: Site) -> list[str]:
    return [
        f"acme_certificate {site.name};",
        "ssl_certificate $acme_certificate;",
        "ssl_certificate_key $acme_certificate_key;",
        # Else Nginx reads the certificate anew for each handshake.
        *(
            ["ssl_certificate_cache max=2;"]
            if has(site.nginx_version, SSL_CERTIFICATE_CACHE)
            else []
        ),
    ]
