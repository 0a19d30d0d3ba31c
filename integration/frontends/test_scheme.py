"""https, however it is said: in the bridge as in uWSGI, and by vars alone."""

from __future__ import annotations

import pytest

from integration.frontends.conftest import Behind, each_nginx
from integration.frontends.running import FRONTENDS, Frontend

both_servers = pytest.mark.parametrize("server", ["bridge", "uwsgi"])

# What a client can say of itself.
CLAIMS = [("HTTPS", "on"), ("Uwsgi-Scheme", "https"), ("Request-Scheme", "https")]
FORWARDED = [
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-SSL", "on"),
    ("Forwarded", "proto=https"),
]


@each_nginx
@both_servers
@pytest.mark.parametrize(
    ("case", "scheme"),
    [("https", "https"), ("https-1", "https"), ("https-off", "http"), ("uwsgi-scheme", "https")],
)
def test_a_line_after_the_include_sets_the_scheme(
    behind: Behind, frontend: Frontend, server, case, scheme
):
    """Where TLS ends in front of Nginx, its own REQUEST_SCHEME, http, is sent as well."""
    assert behind(frontend, server).ask(f"/behind/{case}/x").json()["scheme"] == scheme


@each_nginx
@both_servers
def test_no_header_says_it(behind: Behind, frontend: Frontend, server):
    assert behind(frontend, server).ask("/", *CLAIMS).json()["scheme"] == "http"


@each_nginx
def test_a_forwarded_header_says_it_to_uwsgi_alone(behind: Behind, frontend: Frontend):
    """Whoever sends it: a site that relied on this has to say it by a var (docs/nginx.md)."""
    for header in FORWARDED:
        assert behind(frontend, "bridge").ask("/", header).json()["scheme"] == "http"
    answer = behind(frontend, "uwsgi").ask("/", ("X-Forwarded-Proto", "https"))
    assert answer.json()["scheme"] == "https"


@each_nginx
@pytest.mark.parametrize(
    ("said", "scheme"), [("https", "https"), ("http", "http"), ("", "http"), (None, "http")]
)
def test_what_a_trusted_proxy_forwards_can_be_made_a_var(
    behind: Behind, frontend: Frontend, said, scheme
):
    headers = [] if said is None else [("X-Forwarded-Proto", said)]
    answer = behind(frontend, "bridge").ask("/behind/forwarded/x", *headers)
    assert answer.json()["scheme"] == scheme


@pytest.mark.parametrize("frontend", [it for it in FRONTENDS if it.family != "nginx"], ids=str)
@both_servers
def test_apache_and_lighttpd_say_it_by_a_variable(behind: Behind, frontend: Frontend, server):
    answer = behind(frontend, server).ask("/x", *CLAIMS)
    assert answer.environ()["REQUEST_SCHEME"] == "http"
    assert answer.json()["scheme"] == "https"
