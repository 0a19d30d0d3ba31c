"""Values that have no place in a configuration are refused, each with its option's name."""

from __future__ import annotations

from typing import Any

import pytest

from uwsgibridge.frontend.options import (
    Acme,
    Balancing,
    Cache,
    Canary,
    OptionError,
    RateLimit,
    Site,
    StaticDirectory,
    Tls,
)

TWO = ("a:1", "b:1")
CACHE = Cache(directory="/var/cache/nginx/app")
ACME = Acme(resolver="127.0.0.53")
TLS = Tls(enabled=True)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--name", {"name": "x; return 200"}),
        ("--name", {"name": ""}),
        ("--name", {"name": "../x"}),
        ("--upstream", {"upstreams": ()}),
        ("--upstream", {"upstreams": ("nonsense",)}),
        ("--upstream", {"upstreams": ("app; evil:3031",)}),
        ("--upstream", {"upstreams": ("app\n:3031",)}),
        ("--upstream", {"upstreams": ("$app:3031",)}),
        ("--upstream", {"upstreams": ("app:0",)}),
        ("--upstream", {"upstreams": ("fd://3",)}),
        ("--upstream", {"upstreams": ("unix:relative.sock",)}),
        ("--upstream", {"upstreams": ("unix:/run/$app.sock",)}),
        ("--upstream", {"upstreams": ("unix:/run/a\nb.sock",)}),
        ("--resolver", {"resolver": "127.0.0.11; x"}),
        ("--resolver", {"resolver": "127.0.0.11", "upstreams": ("a:1", "b:1")}),
        ("--listen", {"listen": ()}),
        ("--listen", {"listen": ("80; x",)}),
        ("--listen", {"listen": ("0",)}),
        ("--listen", {"listen": ("65536",)}),
        ("--listen", {"listen": ("[::1]",)}),
        ("--server-name", {"server_names": ()}),
        ("--server-name", {"server_names": ("a b",)}),
        ("--server-name", {"server_names": ("a;",)}),
        ("--server-name", {"server_names": ("~^(.*)$",)}),
        ("--static", {"static": (StaticDirectory("/a/", "/x"), StaticDirectory("/a", "/y"))}),
        ("--client-max-body-bytes", {"client_max_body_bytes": -1}),
        ("--read-timeout-seconds", {"read_timeout_seconds": 0}),
        ("--uwsgi-buffer-bytes", {"uwsgi_buffer_bytes": 0}),
        ("--max-headers", {"max_headers": 0}),
        ("--balance", {"balancing": Balancing(method="random")}),
        ("--sticky", {"balancing": Balancing(cookie="a b")}),
        ("--drain", {"upstreams": TWO, "balancing": Balancing(drain=("a:1",))}),
        ("--drain", {"upstreams": TWO, "balancing": Balancing(cookie="x", drain=("c:1",))}),
        ("--drain", {"upstreams": TWO, "balancing": Balancing(cookie="x", drain=TWO)}),
        ("--resolve", {"upstreams": TWO, "balancing": Balancing(resolve=True)}),
        ("--resolve", {"resolver": "127.0.0.11", "balancing": Balancing(resolve=True)}),
        ("--resolver", {"resolver": "127.0.0.11", "balancing": Balancing(method="least-conn")}),
        ("--resolver", {"resolver": "127.0.0.11", "canary": Canary(upstreams=("c:1",))}),
        ("--canary", {"upstreams": TWO, "canary": Canary(upstreams=("a:1",))}),
        ("--cache", {"upstreams": TWO, "cache": CACHE, "balancing": Balancing(cookie="x")}),
        ("--acme", {"acme": ACME, "server_names": ("example.org",)}),
        ("--acme", {"acme": ACME, "tls": TLS, "server_names": ("localhost",)}),
        ("--acme", {"acme": ACME, "tls": TLS, "server_names": ("a.example", "*.a.example")}),
        ("--http3", {"tls": Tls(enabled=True, http3=True), "nginx_version": (1, 24, 0)}),
        ("--max-headers", {"max_headers": 9, "nginx_version": (1, 29, 7)}),
    ],
)
def test_a_site_names_the_option_that_is_wrong(option: str, values: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"^{option}[ :,]"):
        Site(**values)


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("/", "/srv"),
        ("static/", "/srv"),
        ("/sta tic/", "/srv"),
        ("/static/{/", "/srv"),
        ("/../", "/srv"),
        ("/.git/", "/srv"),
        ("/static/", "srv"),
        ("/static/", "/srv/../etc"),
        ("/static/", "/srv/$uri"),
        ("/static/", "/srv/a\n}"),
    ],
)
def test_a_static_directory_that_could_say_more_is_refused(url: str, directory: str) -> None:
    with pytest.raises(OptionError, match=r"^--static "):
        StaticDirectory(url, directory)


def test_both_ends_of_a_static_directory_have_a_slash() -> None:
    assert StaticDirectory("/static", "/srv/www") == StaticDirectory("/static/", "/srv/www/")


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--tls-listen", {"listen": ("x",)}),
        ("--tls-certificate", {"certificate": "cert.pem"}),
        ("--tls-certificate-key", {"certificate_key": "/etc/$x"}),
        ("--hsts-seconds", {"hsts_seconds": -1}),
    ],
)
def test_tls_names_the_option_that_is_wrong(option: str, values: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"^{option}[ :]"):
        Tls(**values)


@pytest.mark.parametrize(
    ("option", "part", "values"),
    [
        ("--http3", Tls, {"http3": True}),
        ("--canary", Canary, {"upstreams": ("c",)}),
        ("--canary-percent", Canary, {"upstreams": ("c:1",), "percent": 0.0}),
        ("--canary-percent", Canary, {"upstreams": ("c:1",), "percent": 100.0}),
        ("--canary-percent", Canary, {"upstreams": ("c:1",), "percent": 0.015}),
        ("--canary-percent", Canary, {"upstreams": ("c:1",), "percent": float("nan")}),
        ("--cache", Cache, {"directory": "pages"}),
        ("--cache", Cache, {"directory": "/var/$host"}),
        ("--cache-max-bytes", Cache, {"directory": "/x", "max_bytes": 1}),
        ("--cache-valid-seconds", Cache, {"directory": "/x", "valid_seconds": 0}),
        ("--acme", Acme, {"resolver": ""}),
        ("--acme-resolver", Acme, {"resolver": "dns.example"}),
        ("--acme", Acme, {"resolver": "127.0.0.1", "url": "http://ca.example/directory"}),
        ("--acme", Acme, {"resolver": "127.0.0.1", "url": "https://ca.example/;x"}),
        ("--acme-contact", Acme, {"resolver": "127.0.0.1", "contact": "a b@example.org"}),
    ],
)
def test_a_part_names_the_option_that_is_wrong(
    option: str, part: type, values: dict[str, Any]
) -> None:
    with pytest.raises(OptionError, match=f"^{option}[ :]"):
        part(**values)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^--rate-limit 0 "):
        RateLimit(requests_per_second=0)


@pytest.mark.parametrize(
    "values",
    [
        {
            "upstreams": (
                "[::1]:3031",
                "127.0.0.1:1",
                "app_1.internal:3031",
                "unix:/run/my app.sock",
            )
        },
        {"listen": ("8080", "[::]:80", "*:80", "127.0.0.1:1")},
        {
            "server_names": (
                "_",
                "example.org",
                "*.example.org",
                ".example.org",
                "xn--bcher-kva.example",
            )
        },
        {"client_max_body_bytes": 0, "static_max_age_seconds": 0},
    ],
)
def test_what_nginx_understands_is_taken(values: dict[str, Any]) -> None:
    Site(**values)
