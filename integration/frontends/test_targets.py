"""The path as the client sent it, where it sends a whole URL: the form that proxies are asked in."""

from __future__ import annotations

import pytest

from integration.frontends.conftest import Behind, each_nginx
from integration.frontends.running import FRONTENDS, Frontend

APACHE = pytest.mark.parametrize(
    "frontend", [it for it in FRONTENDS if it.family == "apache"], ids=str
)
targets = pytest.mark.parametrize(
    ("target", "path", "raw_path"),
    [
        ("http://example.com?x=1", "/", "/"),
        ("http://example.com", "/", "/"),
        ("http://example.com/?x=1", "/", "/"),
        ("http://example.com/a%20b//c?x", "/a b/c", "/a%20b//c"),
        ("/a%20b?", "/a b", "/a%20b"),
    ],
)


@each_nginx
@targets
def test_nginx_tells_path_and_raw_path(behind: Behind, frontend: Frontend, target, path, raw_path):
    told = behind(frontend, "lines-asgi").ask(target).json()
    assert (told["path"], told["raw_path"]) == (path, raw_path)


@APACHE
@targets
def test_apache_tells_path_and_raw_path(behind: Behind, frontend: Frontend, target, path, raw_path):
    told = behind(frontend, "lines-asgi").ask(target).json()
    assert (told["path"], told["raw_path"]) == (path, raw_path)
    assert told["vars"]["REQUEST_URI"] == target


@each_nginx
def test_the_application_gets_the_host_that_nginx_passes_on(behind: Behind, frontend: Frontend):
    """Until 1.29.5 a foreign Host header goes to the application, while nginx itself uses the URL's."""
    site = behind(frontend, "bridge")
    told = site.ask("http://url.example:77/", host="Header.example.:88").environ()
    knows_better = site.version >= (1, 29, 5)
    assert told["HTTP_HOST"] == ("url.example:77" if knows_better else "Header.example.:88")
    told = site.ask("/", host="Header.example.:88").environ()
    assert told["HTTP_HOST"] == ("header.example:88" if knows_better else "Header.example.:88")


@each_nginx
def test_a_rewrite_leaves_the_raw_path(behind: Behind, frontend: Frontend):
    told = behind(frontend, "lines-asgi").ask("/rewritten/a%20b?x=1").json()
    assert (told["path"], told["raw_path"]) == ("/elsewhere/x", "/rewritten/a%20b")


@each_nginx
def test_an_error_page_after_a_post_is_served(behind: Behind, frontend: Frontend):
    """Nginx makes GET of it, and sends the body of the POST with its length all the same."""
    answer = behind(frontend, "bridge").ask("/failing/x", method="POST", body=b"some=form")
    assert answer.status == 404
    told = answer.json()
    assert told["environ"]["REQUEST_METHOD"] == "GET"
    assert told["environ"]["CONTENT_LENGTH"] == "9"
    assert told["body"] == "some=form"
    assert told["environ"]["PATH_INFO"] == "/error-page"
    assert told["environ"]["REQUEST_URI"] == "/failing/x"
