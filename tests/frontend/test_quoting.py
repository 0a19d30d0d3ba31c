"""Quoting, as far as it shows without an Nginx; test_frontend_pieces.py lets a real one read it."""

from __future__ import annotations

import pytest

from uwsgibridge.frontend.quoting import QuotingError, quote


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("/srv/www/static/", "/srv/www/static/"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("[::1]:3031", "[::1]:3031"),
        ("", '""'),
        ("/srv/my site", '"/srv/my site"'),
        ("/srv/a;b", '"/srv/a;b"'),
        ("/srv/{a}#b", '"/srv/{a}#b"'),
        ("it's", '"it\'s"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("/srv/é", '"/srv/é"'),
    ],
)
def test_a_value_is_quoted_where_it_needs_quotes(value: str, written: str) -> None:
    assert quote(value) == written


@pytest.mark.parametrize(
    "value", ["a\nb", "a\rb", "a\0b", "a\tb", "$request_uri", "\x7f", "\udcff"]
)
def test_what_no_quotes_can_hold_is_refused(value: str) -> None:
    with pytest.raises(QuotingError):
        quote(value)
