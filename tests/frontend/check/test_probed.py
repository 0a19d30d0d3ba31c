"""Which way of a configuration a probe's URL takes."""

from __future__ import annotations

import pytest

from uwsgibridge.frontend.check.probed import find_way
from uwsgibridge.frontend.check.reading import read
from uwsgibridge.frontend.check.tree import grow

SERVERS = """
server { listen 8080; server_name a.example; location / { uwsgi_pass unix:/a.sock; } }
server { listen 8080 default_server; location / { uwsgi_pass unix:/default.sock; } }
server { listen 127.0.0.1:9090; server_name a.example; location / { uwsgi_pass unix:/other.sock; } }
server {
    listen [::1]:443 ssl;
    listen unix:/run/nginx.sock;
    server_name files.example;
    location / { try_files $uri @app; }
    location /media/ { try_files $uri =404; }
    location @app { uwsgi_pass unix:/named.sock; }
    location /if/ {
        if ($request_method = POST) { uwsgi_pass unix:/posts.sock; }
        uwsgi_pass unix:/all.sock;
    }
}
server { server_name plain.example; location = /only { uwsgi_pass unix:/plain.sock; } }
server { listen 192.0.2.1; location / { uwsgi_pass unix:/address.sock; } }
"""


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://a.example:8080/", "/a.sock"),
        ("http://b.example:8080/x", "/default.sock"),
        ("http://a.example:9090", "/other.sock"),
        ("https://files.example/x", "/named.sock"),
        ("https://files.example/if/", "/all.sock"),
        ("http://plain.example/only", "/plain.sock"),
        ("http://plain.example/", "/address.sock"),
        # A port that something in front of Nginx has.
        ("http://files.example:1234/", "/named.sock"),
        ("http://a.example:1234/", "/a.sock"),
    ],
)
def test_a_url_takes_the_way_that_nginx_would(url: str, path: str) -> None:
    way = find_way(grow(read(f"http {{ {SERVERS} }}", "nginx.conf")), url)
    assert way is not None
    assert way.uwsgi_pass.value == f"unix:{path}"


def test_a_url_that_leads_to_no_application_has_no_way() -> None:
    text = "server { location /a/ { uwsgi_pass unix:/a.sock; } location /b/ { return 204; } }"
    tree = grow(read(text, "site"))
    assert find_way(tree, "http://x/a/b") is not None
    assert find_way(tree, "http://x/b/") is None
    assert find_way(tree, "http://x/") is None
