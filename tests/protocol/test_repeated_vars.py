"""A var that comes twice: the frontend's last word, or all that a client said."""

from __future__ import annotations

import pytest

from uwsgibridge.protocol.repeated_vars import SINGLE_VALUED, settle_repeated

HOST = ("HTTP_HOST", "example.com")


@pytest.mark.parametrize(
    "name",
    ["REMOTE_ADDR", "CONTENT_LENGTH", "PATH_INFO", "HTTPS", "REMOTE_USER", "SERVER_NAME", "X"],
)
@pytest.mark.parametrize("last", ["later", ""])
def test_of_a_var_without_http_the_last_stands(name: str, last: str) -> None:
    pairs = [(name, "first"), HOST, ("HTTP_ACCEPT", "*/*"), (name, last)]
    assert settle_repeated(pairs)[name] == last


def test_it_keeps_the_place_of_the_first() -> None:
    pairs = [("A", "1"), ("B", "2"), HOST, ("HTTP_X", "3"), ("A", "4"), ("HTTP_X", "5")]
    assert list(settle_repeated(pairs)) == ["A", "B", "HTTP_HOST", "HTTP_X"]


class TestParams:
    """Of the frontend's own HTTP_ vars the last stands, whatever field it is."""

    NAMES = pytest.mark.parametrize(
        "name", ["HTTP_X_FORWARDED_PROTO", "HTTP_X_USER", "HTTP_ACCEPT", "HTTP_COOKIE"]
    )

    @NAMES
    def test_before_a_var_without_http_the_last_one_wins(self, name: str) -> None:
        pairs = [(name, "first"), ("PATH_INFO", "/"), (name, "last"), ("REMOTE_ADDR", "::1")]
        assert settle_repeated(pairs)[name] == "last"

    @NAMES
    def test_on_both_sides_of_a_var_without_http_the_last_one_wins(self, name: str) -> None:
        """Nginx leaves a client's header out where there is a param of its name."""
        pairs = [(name, "first"), ("PATH_INFO", "/"), ("HTTP_X", "1"), (name, "last")]
        assert settle_repeated(pairs)[name] == "last"

    @NAMES
    def test_before_the_clients_host_the_last_one_wins(self, name: str) -> None:
        pairs = [("PATH_INFO", "/"), (name, "first"), (name, "last"), HOST, ("HTTP_X", "1")]
        assert settle_repeated(pairs)[name] == "last"

    def test_of_two_hosts_the_last_one_wins(self) -> None:
        """Debian's uwsgi_params, and a line behind its include."""
        pairs = [
            ("QUERY_STRING", ""),
            ("HTTP_HOST", "example.com"),
            ("HTTP_HOST", "example.com:8080"),
        ]
        assert settle_repeated(pairs)["HTTP_HOST"] == "example.com:8080"

    def test_behind_a_host_of_its_own_they_look_like_a_clients(self) -> None:
        pairs = [("PATH_INFO", "/"), HOST, ("HTTP_X_USER", "first"), ("HTTP_X_USER", "last")]
        assert settle_repeated(pairs)["HTTP_X_USER"] == "first, last"

    def test_of_lighttpds_repeated_vars_the_last_one_wins(self) -> None:
        pairs = [
            ("SERVER_SOFTWARE", "lighttpd/1.4.69"),
            ("HTTP_X_USER", "the client"),
            ("HTTP_ACCEPT", "text/html, */*"),
            ("HTTP_X_USER", "lighttpd"),
        ]
        assert settle_repeated(pairs)["HTTP_X_USER"] == "lighttpd"


class TestHeadersOfAClient:
    def test_a_list_is_joined(self) -> None:
        pairs = [HOST, ("HTTP_X", "1"), ("HTTP_ACCEPT", "a"), ("HTTP_X", "2"), ("HTTP_X", "3, 4")]
        assert settle_repeated(pairs)["HTTP_X"] == "1, 2, 3, 4"

    def test_cookies_are_joined_as_cookies(self) -> None:
        pairs = [HOST, ("HTTP_COOKIE", "a=1"), ("HTTP_COOKIE", "b=2; c=3")]
        assert settle_repeated(pairs)["HTTP_COOKIE"] == "a=1; b=2; c=3"

    def test_empty_ones_count(self) -> None:
        assert settle_repeated([("HTTP_X", ""), ("HTTP_X", "")]) == {"HTTP_X": ", "}

    def test_on_both_sides_of_the_host_values_are_joined(self) -> None:
        pairs = [("HTTP_X", "1"), HOST, ("HTTP_X", "2")]
        assert settle_repeated(pairs)["HTTP_X"] == "1, 2"

    @pytest.mark.parametrize(
        "name",
        ["HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_VIA", "HTTP_FORWARDED", "HTTP_TE"],
    )
    def test_what_proxies_append_to_is_a_list(self, name: str) -> None:
        assert settle_repeated([HOST, (name, "a"), (name, "b")])[name] == "a, b"

    @pytest.mark.parametrize("name", sorted(SINGLE_VALUED))
    def test_of_a_field_with_one_value_the_last_stands(self, name: str) -> None:
        assert settle_repeated([HOST, (name, "a"), (name, "b")])[name] == "b"

    def test_a_spelling_with_an_underscore_replaces_nothing(self) -> None:
        """X-User of a balancer and X_User of its client are one name in a packet."""
        for pair in (("alice", "root"), ("root", "alice")):
            pairs = [HOST, *(("HTTP_X_USER", value) for value in pair)]
            assert settle_repeated(pairs)["HTTP_X_USER"] == ", ".join(pair)


def test_the_names_are_those_of_vars() -> None:
    assert {"HTTP_HOST", "HTTP_REFERER", "HTTP_SEC_WEBSOCKET_KEY"} < SINGLE_VALUED
    assert all(name.startswith("HTTP_") and name == name.upper() for name in SINGLE_VALUED)
    # Lists by their ABNF, however often they are taken for one value.
    assert not {"HTTP_ACCEPT", "HTTP_COOKIE", "HTTP_IF_NONE_MATCH", "HTTP_UPGRADE"} & SINGLE_VALUED
