"""Which host a request goes to, and what it sees of its path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import pytest

from uwsgibridge.hosts.host import Host
from uwsgibridge.hosts.mounts import Mounts
from uwsgibridge.protocol.packet import PacketLimits, encode_packet, parse_packet
from uwsgibridge.protocol.request import Request


class HostAt:
    """All that is asked of a host here is which one it is."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix


def mounts_at(prefixes: Iterable[str]) -> Mounts:
    return Mounts({prefix: cast("Host", HostAt(prefix)) for prefix in prefixes})


def selected(mounts: Mounts, request: Request) -> str | None:
    """Give the prefix of the host that takes it."""
    host = cast("HostAt | None", mounts.select(request))
    return host.prefix if host else None


def request_of(path: str, *, script_name: str = "", modifier1: int = 0) -> Request:
    data = encode_packet({"PATH_INFO": path, "SCRIPT_NAME": script_name}, modifier1=modifier1)
    packet = parse_packet(memoryview(data), PacketLimits())
    assert packet is not None
    return Request(packet)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("path", "prefix", "path_below"),
    [
        ("/", "", "/"),
        ("/other", "", "/other"),
        ("/api", "/api", ""),
        ("/api/", "/api", "/"),
        ("/api/x", "/api", "/x"),
        ("/apix", "", "/apix"),
        ("/API/x", "", "/API/x"),
        ("/api/v2", "/api/v2", ""),
        ("/api/v2/x", "/api/v2", "/x"),
        ("/api/v22", "/api", "/v22"),
        ("/x/api/v2", "", "/x/api/v2"),
        ("//api/x", "", "//api/x"),
        ("", "", ""),
        ("*", "", "*"),  # OPTIONS *
        ("api/x", "", "api/x"),  # a uwsgi_param of one's own
    ],
)
def test_the_longest_prefix_wins_at_path_boundaries(
    order: int, path: str, prefix: str, path_below: str
) -> None:
    request = request_of(path)
    host = selected(mounts_at(["", "/api", "/api/v2"][::order]), request)
    assert host == prefix
    assert request.vars["SCRIPT_NAME"] == prefix
    assert request.vars["PATH_INFO"] == path_below
    assert request.vars["SCRIPT_NAME"] + request.vars["PATH_INFO"] == path


@pytest.mark.parametrize(
    ("prefixes", "path", "script_name", "path_below"),
    [
        (["", "/a", "/b"], "/b/b/x", "/b", "/b/x"),  # as uWSGI with manage-script-name
        (["", "/a", "/b"], "/b/a/x", "/b", "/a/x"),
        (["", "/a", "/b"], "/b/x", "/b", "/x"),
        (["", "/a", "/b"], "/b/b", "/b", "/b"),
        (["", "/a", "/b"], "/b", "/b", ""),
        (["/b", "/b/b"], "/b/b/x", "/b/b", "/x"),
        (["", "/a", "/b"], "/bx", "/b", "/bx"),
    ],
)
def test_what_modifier_30_has_cut_off_is_cut_off_once(
    prefixes: list[str], path: str, script_name: str, path_below: str
) -> None:
    request = request_of(path, script_name="/b", modifier1=30)
    assert selected(mounts_at(prefixes), request) == script_name
    assert (request.vars["SCRIPT_NAME"], request.vars["PATH_INFO"]) == (script_name, path_below)


def test_a_prefix_goes_behind_the_script_name_of_the_frontend() -> None:
    request = request_of("/api/x", script_name="/site")
    assert selected(mounts_at(["", "/api"]), request) == "/api"
    assert request.vars["SCRIPT_NAME"] == "/site/api"
    assert request.vars["PATH_INFO"] == "/x"
    assert (request.path, request.root_path) == ("/site/api/x", "/site/api")


@pytest.mark.parametrize(
    ("script_name", "path", "prefix", "script_name_there", "path_there"),
    [
        # nginx's own params leave the prefix in PATH_INFO.
        ("/b", "/b/x", "/b", "/b", "/x"),
        ("/b", "/b", "/b", "/b", ""),
        ("/b/", "/b/x", "/b", "/b", "/x"),
        ("/b/c", "/b/c/x", "/b", "/b", "/c/x"),
        # The frontend has cut it off: by `rewrite`, or uwsgi_modifier1 30 has.
        ("/b", "/x", "/b", "/b", "/x"),
        ("/b", "/", "/b", "/b", "/"),
        ("/b", "", "/b", "/b", ""),
        ("/b", "/a/x", "/b", "/b", "/a/x"),
        ("/b/c", "/x", "/b", "/b", "/c/x"),
        # The mount is below the frontend's prefix.
        ("/site", "/b/x", "/b", "/site/b", "/x"),
        ("/long", "/long/b/x", "/long/b", "/long/b", "/x"),
        ("/long", "/b/x", "/long/b", "/long/b", "/x"),
        # It has nothing to do with a mount.
        ("/bc", "/x", "", "/bc", "/x"),
        ("/site", "/site/b/x", "", "/site", "/site/b/x"),
    ],
)
def test_a_script_name_that_is_a_mounts_prefix_chooses_it_and_comes_once(
    script_name: str, path: str, prefix: str, script_name_there: str, path_there: str
) -> None:
    """With manage-script-name, uWSGI gives the same for the prefix of a mount."""
    request = request_of(path, script_name=script_name)
    assert selected(mounts_at(["", "/a", "/b", "/long/b"]), request) == prefix
    assert request.vars["SCRIPT_NAME"] == script_name_there
    assert request.vars["PATH_INFO"] == path_there


def test_nothing_is_mounted_there() -> None:
    for mounts in (mounts_at(["/api"]), mounts_at(["/api", "/admin"])):
        request = request_of("/other")
        assert mounts.select(request) is None
        assert request.vars["PATH_INFO"] == "/other"


def test_one_host_serves_below_a_prefix() -> None:
    request = request_of("/api/x")
    assert selected(mounts_at(["/api"]), request) == "/api"
    assert request.vars["PATH_INFO"] == "/x"


@pytest.mark.parametrize("path", ["/", "/x", "", "*"])
def test_one_host_serves_everything(path: str) -> None:
    request = request_of(path)
    assert selected(mounts_at([""]), request) == ""
    assert request.vars["PATH_INFO"] == path
    assert request.vars["SCRIPT_NAME"] == ""


def test_a_prefix_beyond_ascii_matches() -> None:
    """It is text where it is configured, and UTF-8 on the wire."""
    request = request_of("/büro/café".encode().decode("latin-1"))
    assert selected(mounts_at(["", "/büro"]), request) == "/büro"
    assert request.root_path == "/büro"
    assert request.path == "/büro/café"
    assert request.vars["PATH_INFO"] == "/café".encode().decode("latin-1")


def test_all_hosts_are_known() -> None:
    hosts = cast("list[HostAt]", mounts_at(["", "/a", "/b"]).hosts)
    assert [host.prefix for host in hosts] == ["", "/a", "/b"]
