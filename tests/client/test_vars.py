"""What a request tells a server: what Nginx would tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uwsgi_server import (
    OK,
    Peer,
    free_port,
    serving,
    vars_of,
)
from uwsgibridge.client import (
    request,
)
from uwsgibridge.protocol.packet import Packet


def test_vars_are_those_of_nginx() -> None:
    assert vars_of("/caf%C3%A9/a%2525b?q=%20+&q=2") == {
        "QUERY_STRING": "q=%20+&q=2",
        "REQUEST_METHOD": "GET",
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "REQUEST_URI": "/caf%C3%A9/a%2525b?q=%20+&q=2",
        "PATH_INFO": "/caf\xc3\xa9/a%25b",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_NAME": "localhost",
        "HTTP_HOST": "localhost",
    }


@pytest.mark.parametrize(
    ("path", "request_uri", "path_info"),
    [
        ("/caf\u00e9", "/caf\xc3\xa9", "/caf\xc3\xa9"),
        ("/\u20ac", "/\xe2\x82\xac", "/\xe2\x82\xac"),
        ("/\udcff", "/\xff", "/\xff"),  # a byte of the command line that is not UTF-8
        ("/a%2Fb%zz%", "/a%2Fb%zz%", "/a/b%zz%"),
        ("//a/../b", "//a/../b", "//a/../b"),
        ("*", "*", "*"),
    ],
)
def test_paths_are_split_and_decoded(path: str, request_uri: str, path_info: str) -> None:
    received = vars_of(path)
    assert (received["REQUEST_URI"], received["PATH_INFO"]) == (request_uri, path_info)


def test_headers_become_vars_and_repeats_are_joined() -> None:
    received = vars_of(
        headers=[
            ("X-One", "1"),
            ("Cookie", "a=1"),
            ("x-one", "2"),
            ("Cookie", "b=2"),
            ("Host", "example.org:8080"),
            ("X-Name", "caf\xe9"),
        ]
    )
    assert received["HTTP_X_ONE"] == "1, 2"
    assert received["HTTP_COOKIE"] == "a=1; b=2"
    assert received["HTTP_HOST"] == "example.org:8080"
    assert received["HTTP_X_NAME"] == "caf\xe9"


def test_headers_may_be_a_mapping() -> None:
    assert vars_of(headers={"X-One": "1"})["HTTP_X_ONE"] == "1"


def test_vars_override_add_and_remove() -> None:
    received = vars_of(
        headers={"X-One": "1"},
        vars={"REMOTE_ADDR": "192.0.2.7", "HTTPS": "on", "PATH_INFO": None, "HTTP_X_ONE": None},
    )
    assert received["REMOTE_ADDR"] == "192.0.2.7"
    assert received["HTTPS"] == "on"
    assert not {"PATH_INFO", "HTTP_X_ONE"} & received.keys()


def test_removing_a_var_that_is_not_there_is_no_error() -> None:
    assert "HTTP_ABSENT" not in vars_of(vars={"HTTP_ABSENT": None})


def test_modifier1_is_sent() -> None:
    seen: list[Packet] = []

    def behave(peer: Peer) -> None:
        seen.append(peer.receive_packet())
        peer.send(OK + b"\r\n")

    with serving(behave, "ipv4", Path()) as address:
        request(address, modifier1=30)
    assert seen[0].modifier1 == 30


def test_vars_over_the_size_of_a_packet_are_refused_before_connecting() -> None:
    with pytest.raises(ValueError, match="65535"):
        request(f"127.0.0.1:{free_port()}", headers={"X-Big": "x" * 65_500})
