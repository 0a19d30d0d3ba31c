"""What is left of an answer whose body Nginx takes from a file: X-Accel-Redirect, as --offload makes it."""

from __future__ import annotations

from integration.frontends.apps.lines import OWN_HEADERS
from integration.frontends.conftest import Behind, each_nginx
from integration.frontends.running import Frontend

KEPT = {
    "Content-Type",
    "Content-Disposition",
    "Cache-Control",
    "Expires",
    "Set-Cookie",
    "Accept-Ranges",
}


@each_nginx
def test_headers_that_stay(behind: Behind, frontend: Frontend):
    answer = behind(frontend, "lines-wsgi").ask("/named")
    assert (answer.status, answer.body) == (200, b"the page")
    found = {name for name, value in OWN_HEADERS.items() if answer.headers[name] == value}
    assert found == KEPT
    # Nginx has its own of these, and none of the others.
    others = {name for name in OWN_HEADERS if name in answer.headers} - KEPT
    assert others == {"ETag", "Last-Modified"}
