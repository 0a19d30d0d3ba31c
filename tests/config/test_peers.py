"""Networks and users that may connect."""

from __future__ import annotations

import os

import pytest

from uwsgibridge.config.peers import parse_network, parse_peer_user
from uwsgibridge.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::/0", "::/0"),
        ("fe80::/10", "fe80::/10"),
    ],
)
def test_networks(text: str, meant: str) -> None:
    assert str(parse_network("--allow-from", text)) == meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.1.2.3/8", "write 10.0.0.0/8 for the network, or 10.1.2.3 for"),
        ("2001:db8::1/32", "write 2001:db8::/32 for the network, or 2001:db8::1 for"),
        ("fe80::1%eth0", "leave %eth0 out"),
        ("fe80::%eth0/10", "leave %eth0 out"),
        ("::ffff:10.0.0.0/104", "write 10.0.0.0/8"),
        ("::ffff:10.0.0.1", "write 10.0.0.1/32"),
        ("10.0.0.0/255.0.0.0", "is no network such as"),
        ("10.0.0.0/0.255.255.255", "is no network such as"),
        ("10.0.0.0/33", "is no network such as"),
        ("10.0.0.0/", "is no network such as"),
        ("10.0.0.0/+8", "is no network such as"),
        ("10.0.0.1:3031", "is no network such as"),
        ("localhost", "is no network such as"),
        ("*", "is no network such as"),
        ("", "is no network such as"),
    ],
)
def test_what_is_no_network(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_network("--allow-from", text)
    assert f"--allow-from {text!r}" in str(raised.value)
    assert says in str(raised.value)


def test_users() -> None:
    assert parse_peer_user("--allow-user", "root") == 0
    assert parse_peer_user("--allow-user", str(os.getuid())) == os.getuid()
    with pytest.raises(SettingsError, match="--allow-user 'nobody-of-that-name': there is no"):
        parse_peer_user("--allow-user", "nobody-of-that-name")
