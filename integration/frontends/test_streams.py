"""Streams of lines reach their client line by line, whatever the frontend's defaults are."""

from __future__ import annotations

import secrets
import zlib

import pytest

from integration.frontends.apps.lines import FIRST, LAST
from integration.frontends.conftest import Behind, each_nginx
from integration.frontends.running import FRONTENDS, Frontend, Site

TYPES = [
    "application/x-ndjson",
    "application/jsonl; charset=utf-8",
    "application/json-seq",
    "text/event-stream",
    "multipart/x-mixed-replace; boundary=x",
]

both_interfaces = pytest.mark.parametrize("server", ["lines-wsgi", "lines-asgi"])

# Less than the application waits.
EARLY_SECONDS = 8


def assert_first_line_comes_alone(site: Site, target: str, *, encoding: str = "identity") -> None:
    """Read the first line, and only then let the application go on."""
    gate = secrets.token_hex(4)
    unpack = zlib.decompressobj(31 if encoding == "gzip" else zlib.MAX_WBITS)
    with site.connect() as connection:
        connection.settimeout(EARLY_SECONDS)
        headers = f"Host: x\r\nAccept-Encoding: {encoding}\r\n\r\n"
        asked = f"GET {target}&gate={gate} HTTP/1.0\r\n{headers}"
        connection.sendall(asked.encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65_536)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.split(b" ", 2)[1] == b"200"
        assert b"x-accel-" not in head.lower() or site.frontend.family != "nginx"
        assert (b"content-encoding: gzip" in head.lower()) == (encoding == "gzip")

        def plain(data: bytes) -> bytes:
            return unpack.decompress(data) if encoding == "gzip" else data

        lines = plain(body)
        while not lines.endswith(b"\n"):
            piece = connection.recv(65_536)
            assert piece, "the stream ended"
            lines += plain(piece)
        assert lines == FIRST
        assert site.ask(f"{target.partition('lines')[0]}release?gate={gate}").status == 204
        while piece := connection.recv(65_536):
            lines += plain(piece)
        assert lines == FIRST + LAST


@each_nginx
@both_interfaces
@pytest.mark.parametrize("content_type", TYPES)
def test_lines_come_one_by_one_with_nginxs_defaults(
    behind: Behind, frontend: Frontend, server, content_type
):
    target = f"/lines?type={content_type.replace(' ', '%20').replace(';', '%3B')}"
    assert_first_line_comes_alone(behind(frontend, server), target)


@each_nginx
@both_interfaces
@pytest.mark.parametrize("content_type", ["application/x-ndjson", "text/event-stream"])
def test_lines_that_nginx_compresses_come_one_by_one(
    behind: Behind, frontend: Frontend, server, content_type
):
    """With X-Accel-Buffering: no, nginx flushes what it compresses."""
    site = behind(frontend, server).beside(".gzip")
    assert_first_line_comes_alone(site, f"/lines?type={content_type}", encoding="gzip")


@pytest.mark.parametrize("frontend", [it for it in FRONTENDS if it.family == "apache"], ids=str)
@both_interfaces
def test_apache_sends_what_comes(behind: Behind, frontend: Frontend, server):
    assert_first_line_comes_alone(behind(frontend, server), "/lines?type=text/plain")
