"""Values that have no place in a configuration are refused, each with its option's name."""

from __future__ import annotations

from typing import Any

import pytest

from uwsgibridge.frontend.options import OptionError, RateLimit, Site, StaticDirectory, Tls


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
