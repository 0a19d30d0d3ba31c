"""How Apache's mod_proxy_uwsgi and lighttpd's mod_scgi differ from Nginx: the rows of docs/frontends.md."""

from __future__ import annotations

import pytest

from integration.frontends.apps.lines import FIRST
from integration.frontends.conftest import Behind
from integration.frontends.running import FRONTENDS, Frontend

APACHE, LIGHTTPD = (
    pytest.mark.parametrize("frontend", [it for it in FRONTENDS if it.family == family], ids=str)
    for family in ("apache", "lighttpd")
)

CHUNKED = (
    b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b"5\r\nfirst\r\n7\r\n second\r\n0\r\n\r\n"
)


@APACHE
def test_apache_refuses_an_upload_in_chunks(behind: Behind, frontend: Frontend):
    assert behind(frontend, "bridge").send(CHUNKED).status == 411


@LIGHTTPD
def test_lighttpd_puts_an_upload_in_chunks_together(behind: Behind, frontend: Frontend):
    answer = behind(frontend, "bridge").send(CHUNKED)
    assert answer.json()["body"] == "first second"
    assert answer.environ()["CONTENT_LENGTH"] == "12"
    assert "HTTP_TRANSFER_ENCODING" not in answer.environ()


@APACHE
def test_apache_takes_name_and_port_from_the_clients_host(behind: Behind, frontend: Frontend):
    """So SERVER_NAME and SERVER_PORT prove nothing there."""
    environ = behind(frontend, "bridge").ask("/", host="said.example:77").environ()
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("said.example", "77")
    environ = behind(frontend, "bridge").ask("/", host="said.example").environ()
    assert environ["SERVER_PORT"] == "80"


@APACHE
def test_apache_has_no_encoded_slash(behind: Behind, frontend: Frontend):
    assert behind(frontend, "bridge").ask("/a%2Fb").status == 404
    assert behind(frontend, "bridge").ask("//a/./b").environ()["PATH_INFO"] == "/a/b"


@LIGHTTPD
def test_lighttpd_normalises_path_and_query(behind: Behind, frontend: Frontend):
    environ = behind(frontend, "bridge").ask("/a%2Fb/../c?x=%41&y=%20").environ()
    assert environ["PATH_INFO"] == "/a/c"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["QUERY_STRING"] == "x=A&y=%20"
    assert environ["REQUEST_URI"] == "/a%2Fb/../c?x=%41&y=%20"


@APACHE
def test_apache_shows_a_broken_answer_that_has_a_length(behind: Behind, frontend: Frontend):
    """Without one, a reset that comes close behind the last bytes may get lost in Apache."""
    answer = behind(frontend, "lines-wsgi").ask("/breaks?length=1000")
    assert (answer.is_broken, answer.body) == (True, FIRST)


@LIGHTTPD
def test_lighttpd_completes_a_broken_answer_without_a_length(behind: Behind, frontend: Frontend):
    """It counts what came, and sends that as the length."""
    answer = behind(frontend, "lines-wsgi").ask("/breaks")
    assert (answer.status, answer.is_broken, answer.body) == (200, False, FIRST)
    assert answer.headers["Content-Length"] == str(len(FIRST))
    # With a length of the application's own it is seen.
    assert behind(frontend, "lines-wsgi").ask("/breaks?length=1000").is_broken


@LIGHTTPD
def test_lighttpd_makes_a_range_of_a_whole_answer(behind: Behind, frontend: Frontend):
    answer = behind(frontend, "lines-wsgi").ask("/content", ("Range", "bytes=4-6"))
    assert (answer.status, answer.body) == (206, b"con")


@APACHE
def test_apache_leaves_ranges_to_the_application(behind: Behind, frontend: Frontend):
    answer = behind(frontend, "lines-wsgi").ask("/content", ("Range", "bytes=4-6"))
    assert (answer.status, answer.body) == (200, b"the content")
