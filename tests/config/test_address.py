"""Addresses: each form that is taken, and what is said of every other text."""

from __future__ import annotations

import sys

import pytest

from uwsgibridge.config.address import (
    FORMS,
    Address,
    AddressError,
    DescriptorAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
)

# struct sockaddr_un holds one byte more, for the NUL: unix(7).
LONGEST = 107 if sys.platform == "linux" else 103
LONGEST_PATH = "/" + "x" * (LONGEST - 1)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:3031", TcpAddress("127.0.0.1", 3031)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("app.example.com:65535", TcpAddress("app.example.com", 65_535)),
        ("[::1]:3031", TcpAddress("::1", 3031)),
        ("[::]:80", TcpAddress("::", 80)),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
        ("[::ffff:127.0.0.1]:80", TcpAddress("::ffff:127.0.0.1", 80)),
        ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
        ("unix:app.sock", UnixAddress("app.sock")),
        ("unix:/with space:and:colons", UnixAddress("/with space:and:colons")),
        (f"unix:{LONGEST_PATH}", UnixAddress(LONGEST_PATH)),
        ("fd://3", DescriptorAddress(3)),
        ("fd://0", DescriptorAddress(0)),
    ],
)
def test_each_form_is_read_and_written_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        (":3031", TcpAddress("0.0.0.0", 3031), "0.0.0.0:3031"),
        ("127.0.0.1:0080", TcpAddress("127.0.0.1", 80), "127.0.0.1:80"),
        ("unix:///run/app.sock", UnixAddress("/run/app.sock"), "unix:/run/app.sock"),
        ("unix://run/app.sock", UnixAddress("/run/app.sock"), "unix:/run/app.sock"),
        ("fd://007", DescriptorAddress(7), "fd://7"),
    ],
)
def test_other_spellings_name_the_same_address(text: str, address: Address, written: str) -> None:
    assert parse_address(text) == address
    assert str(address) == written
    assert parse_address(written) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:",
        "127.0.0.1:port",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1: 1",
        "127.0.0.1:1 ",
        "127.0.0.1:1\n",
        "[::1]:",
        "[::1]3031",
        "[]:80",
        "[::1:80",
        "[host]:80",
        "[::1]]:80",
        "http://",
        ":::",
        "1:2:3031",
        "a/b:80",
    ],
)
def test_another_text_is_told_the_forms(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert str(caught.value) == f"{text!r} is not an address; write {FORMS}"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("127.0.0.1", "the port is missing: 127.0.0.1:3031"),
        ("localhost", "the port is missing: localhost:3031"),
        ("[::1]", "the port is missing: [::1]:3031"),
        ("3031", "an address stands before the port: 127.0.0.1:3031"),
        ("::1:3031", "an IPv6 address stands in brackets: [::1]:3031"),
        (":::3031", "an IPv6 address stands in brackets: [::]:3031"),
        ("http://127.0.0.1:3031/", "leave http:// out, and what comes behind the port"),
        ("tcp://127.0.0.1:3031", "leave tcp:// out, and what comes behind the port"),
        ("uwsgi://127.0.0.1:3031", "leave uwsgi:// out, and what comes behind the port"),
    ],
)
def test_what_was_probably_meant_is_said(text: str, hint: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert str(caught.value) == f"{text!r} is not an address; write {FORMS}; {hint}"


@pytest.mark.parametrize("text", ["/run/app.sock", "./app.sock"])
def test_a_path_is_told_how_to_say_so(text: str) -> None:
    with pytest.raises(AddressError, match=f"for a unix socket write unix:{text}$"):
        parse_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:65536", "[::1]:99999", ":100000"])
def test_a_port_has_an_end(text: str) -> None:
    with pytest.raises(AddressError, match="a port is at most 65535"):
        parse_address(text)


@pytest.mark.parametrize("text", ["unix:", "unix://", "unix:///", "unix:/run/", "unix:/a\0b"])
def test_a_unix_address_names_a_file(text: str) -> None:
    with pytest.raises(AddressError, match=r"names no file; write for example unix:/run/app\.sock"):
        parse_address(text)


@pytest.mark.parametrize(
    ("path", "size"),
    [(LONGEST_PATH + "x", LONGEST + 1), ("/" + "é" * 54, 109), ("/" + "x" * 1000, 1001)],
)
def test_a_path_that_no_socket_can_have(path: str, size: int) -> None:
    said = f"too long for a unix socket: {size} bytes, {LONGEST} fit"
    with pytest.raises(AddressError, match=said):
        parse_address(f"unix:{path}")


def test_a_path_of_bytes_that_are_no_text() -> None:
    """As the command line gives it: undecodable bytes as surrogates (PEP 383)."""
    assert parse_address("unix:/run/\udcff.sock") == UnixAddress("/run/\udcff.sock")


@pytest.mark.parametrize("text", ["fd://", "fd://x", "fd://-1", "fd://+3", "fd://3 ", "fd://²"])
def test_a_descriptor_is_a_number(text: str) -> None:
    with pytest.raises(AddressError, match="names no descriptor; write for example fd://3"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("fd://" + "9" * 5000, id="descriptor"),
        pytest.param("127.0.0.1:" + "9" * 5000, id="port"),
        pytest.param("127.0.0.1:\uff13\uff10", id="digits of another script"),
        pytest.param("fd://\uff13", id="digit of another script"),
        pytest.param("unix:/\ud800", id="half a character"),
    ],
)
def test_nothing_odd_gives_another_error(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)


@pytest.mark.parametrize("text", ["@app", "unix:@app"])
def test_an_abstract_address_is_none_that_nginx_could_connect_to(text: str) -> None:
    with pytest.raises(AddressError, match="is an abstract address, to which Nginx can't connect"):
        parse_address(text)


def test_a_file_may_have_such_a_name_all_the_same() -> None:
    assert parse_address("unix:./@app") == UnixAddress("./@app")
    assert parse_address("unix:/run/@app") == UnixAddress("/run/@app")
