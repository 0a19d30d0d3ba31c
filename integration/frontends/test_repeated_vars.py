"""A var that comes twice: the bridge gives it the value that uWSGI gives it, unless a client listed more.

Each test that names both servers asks uWSGI itself, where it is installed.
"""

from __future__ import annotations

import pytest

from integration.frontends.conftest import Behind, each_nginx
from integration.frontends.running import FRONTENDS, Frontend

APACHE, LIGHTTPD = (
    pytest.mark.parametrize("frontend", [it for it in FRONTENDS if it.family == family], ids=str)
    for family in ("apache", "lighttpd")
)
both_servers = pytest.mark.parametrize("server", ["bridge", "uwsgi"])

# What stands behind the include of Debian's params, and what the application is told then.
OVERRULED: dict[str, dict[str, str | None]] = {
    "nothing": {"HTTP_HOST": "example.com", "PATH_INFO": "/behind/nothing/x"},
    "host": {"HTTP_HOST": "example.com:8080"},
    "path": {"PATH_INFO": "/overruled", "REQUEST_URI": "/behind/path/x"},
    "names": {"SERVER_NAME": "overruled.example", "SERVER_PORT": "8443"},
    "address": {"REMOTE_ADDR": "203.0.113.9"},
    "user": {"REMOTE_USER": "last"},
    "header-of-a-snippet": {"HTTP_X_USER": "last"},
    "list": {"HTTP_ACCEPT": "last"},
    "no-user": {"HTTP_X_USER": None},
}


@each_nginx
@both_servers
@pytest.mark.parametrize("case", OVERRULED)
def test_a_line_behind_the_include_counts(behind: Behind, frontend: Frontend, server, case):
    headers = [("X-User", "the client"), ("X_User", "the client"), ("Accept", "text/html")]
    environ = behind(frontend, server).ask(f"/behind/{case}/x", *headers).environ()
    for name, value in OVERRULED[case].items():
        assert environ.get(name) == value


@each_nginx
@both_servers
def test_of_two_lines_for_a_header_the_last_one_wins(behind: Behind, frontend: Frontend, server):
    """The client's Host, which comes behind them, tells that they are Nginx's."""
    environ = behind(frontend, server).ask("/headers/x", ("X-User", "the client")).environ()
    assert environ["HTTP_X_USER"] == "last"


@each_nginx
def test_two_lines_for_a_header_where_nothing_tells_whose_they_are(
    behind: Behind, frontend: Frontend
):
    """Behind Debian's HTTP_HOST, and last of all: as if a client had sent both (docs/vars.md)."""
    environ = behind(frontend, "bridge").ask("/behind/header/x").environ()
    assert environ["HTTP_X_USER"] == "first, last"


@each_nginx
@both_servers
@pytest.mark.parametrize("body", [b"", b"some=form"])
def test_auth_request_as_it_is_documented(behind: Behind, frontend: Frontend, server, body):
    """The subrequest has no body and says so, whatever the request that it is about has."""
    method = "POST" if body else "GET"
    site = behind(frontend, server)
    answer = site.ask("/guarded/x", ("X-Answer", "allow"), method=method, body=body)
    assert answer.status == 204
    answer = site.ask("/guarded/x", method=method, body=body)
    assert answer.json()["body"] == body.decode()
    assert answer.environ()["PATH_INFO"] == "/guarded/x"


REPEATED = [
    *(("Accept", "a"), ("Cookie", "a=1"), ("X-One", "1"), ("Accept", "b"), ("Cookie", "b=2")),
    *(("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.2"), ("X-One", "2")),
]


@each_nginx
def test_what_a_client_lists_is_whole(behind: Behind, frontend: Frontend):
    """Nginx before 1.23 sends a var for each line: the bridge joins them as later ones do."""
    environ = behind(frontend, "bridge").ask("/", *REPEATED).environ()
    assert environ["HTTP_ACCEPT"] == "a, b"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.1, 192.0.2.2"
    assert environ["HTTP_X_ONE"] == "1, 2"


@each_nginx
def test_uwsgi_keeps_the_last_line_of_an_older_nginx(behind: Behind, frontend: Frontend):
    site = behind(frontend, "uwsgi")
    environ = site.ask("/", *REPEATED).environ()
    joined = site.version >= (1, 23)
    assert environ["HTTP_ACCEPT"] == ("a, b" if joined else "b")
    assert environ["HTTP_COOKIE"] == ("a=1; b=2" if joined else "b=2")


@each_nginx
@pytest.mark.parametrize("name", ["Referer", "User-Agent", "Origin", "X-Real-IP", "Range"])
def test_of_a_field_with_one_value_the_last_line_stands(behind: Behind, frontend: Frontend, name):
    """Nginx from 1.23 on has joined them before they leave it."""
    found = {}
    for server in ("bridge", "uwsgi"):
        site = behind(frontend, server)
        environ = site.ask("/", (name, "first"), (name, "last")).environ()
        found[server] = environ[f"HTTP_{name.upper().replace('-', '_')}"]
    joined = site.version >= (1, 23)
    assert found == dict.fromkeys(found, "first, last" if joined else "last")


@each_nginx
def test_two_lines_of_host_are_refused_by_nginx(behind: Behind, frontend: Frontend):
    assert behind(frontend, "bridge").ask("/", ("Host", "another.example")).status == 400


@each_nginx
@pytest.mark.parametrize("spellings", [("X-User", "X_User"), ("X_User", "X-User")])
def test_no_spelling_takes_anothers_place(behind: Behind, frontend: Frontend, spellings):
    """With underscores_in_headers on, which is off unless somebody says so."""
    headers = [(name, f"of {name}") for name in spellings]
    site = behind(frontend, "bridge").beside(".underscores")
    environ = site.ask("/", *headers).environ()
    assert environ["HTTP_X_USER"] == ", ".join(f"of {name}" for name in spellings)
    # What is Nginx's own word stays it.
    assert site.ask("/own/", *headers).environ()["HTTP_X_USER"] == "own"
    site = behind(frontend, "uwsgi").beside(".underscores")
    assert site.ask("/", *headers).environ()["HTTP_X_USER"] == f"of {spellings[1]}"
    assert site.ask("/own/", *headers).environ()["HTTP_X_USER"] == "own"


@each_nginx
def test_an_underscore_is_no_header_by_default(behind: Behind, frontend: Frontend):
    environ = behind(frontend, "bridge").ask("/", ("X_User", "the client")).environ()
    assert "HTTP_X_USER" not in environ


@APACHE
@both_servers
def test_apache_sends_each_name_once(behind: Behind, frontend: Frontend, server):
    headers = [*REPEATED, ("X-User", "client"), ("X_User", "client"), ("X-Set-Env", "client")]
    environ = behind(frontend, server).ask("/x", *headers).environ()
    assert environ["HTTP_ACCEPT"] == "a, b"
    assert environ["HTTP_COOKIE"] == "a=1, b=2"
    assert environ["HTTP_X_USER"] == "apache"
    assert environ["REMOTE_USER"] == "apache"
    # SetEnv is no protection for a name that a header has, nor for what Apache says itself.
    assert environ["HTTP_X_SET_ENV"] == "client"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"


@LIGHTTPD
@both_servers
def test_lighttpds_own_word_is_the_last(behind: Behind, frontend: Frontend, server):
    headers = [*REPEATED, ("X-User", "client"), ("X_User", "client"), ("X.User", "client")]
    site = behind(frontend, server)
    environ = site.ask("/x", *headers).environ()
    assert environ["HTTP_ACCEPT"] == "a, b"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_USER"] == "lighttpd"
    environ = site.beside(".overruled").ask("/x").environ()
    assert environ["PATH_INFO"] == "/overruled"


@LIGHTTPD
@both_servers
def test_lighttpd_lets_another_spelling_replace_what_it_sets(
    behind: Behind, frontend: Frontend, server
):
    """So setenv.set-request-header proves nothing to a server behind it: docs/vars.md."""
    headers = [("X-Set", "client"), ("X.Set", "client")]
    environ = behind(frontend, server).ask("/x", *headers).environ()
    assert environ["HTTP_X_SET"] == "client"
