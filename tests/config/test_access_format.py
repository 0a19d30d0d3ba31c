"""Formats of the access log: what is one, and what is said of what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge import Settings
from uwsgibridge.config.access_format import (
    FORMS,
    GUNICORN_VARIABLES,
    UWSGI_VARIABLES,
    Variable,
    parse_format,
)
from uwsgibridge.errors import SettingsError

OPTION = "--access-log-format"


@pytest.mark.parametrize("form", FORMS)
def test_form_with_a_name_has_no_pieces(form: str) -> None:
    assert parse_format(OPTION, form) == ()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("%(method) %(uri)", (Variable("method"), " ", Variable("uri"))),
        ("[%(status)]", ("[", Variable("status"), "]")),
        # Behind a variable of uWSGI, each letter is a text.
        ("%(msecs)s", (Variable("msecs"), "s")),
        ("%(msecs)ms", (Variable("msecs"), "ms")),
        ("%(var.HTTP_X_A)", (Variable("var", "HTTP_X_A"),)),
        ("100% of %(uri)%", ("100% of ", Variable("uri"), "%")),
        ("%%(uri)", ("%", Variable("uri"))),
        ("%(h)s %(t)s", (Variable("h"), " ", Variable("t"))),
        ("%(D)d", (Variable("D"),)),
        ("%(h)s 5%%", (Variable("h"), " 5%")),
        ("%({X-Forwarded-For}i)s", (Variable("i", "x-forwarded-for"),)),
        ("%({Server}o)s", (Variable("o", "server"),)),
        ("%({remote_user}e)s", (Variable("e", "REMOTE_USER"),)),
        ("%(h)s %(uri)", (Variable("h"), " ", Variable("uri"))),
    ],
)
def test_text_is_split(text: str, pieces: tuple[object, ...]) -> None:
    assert parse_format(OPTION, text) == pieces


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is none of auto, combined, json, short, and has no variable such as %(status)"),
        ("combned", "did you mean combined?"),
        ("%h %t", "has no variable such as %(status)"),
        ("%(methd)", "there is no variable %(methd): did you mean %(method)?"),
        ("%(Status)", "did you mean %(status)?"),
        ("%(x)s", "there is no variable %(x)"),
        ("%(user_id)", "there is no variable %(user_id)"),
        ("%(metric.worker.1.requests)", "there is no variable %(metric.worker.1.requests)"),
        ("%(var.)", "there is no variable %(var.)"),
        ("%({x}z)s", "there is no variable %({x}z)"),
        ("%()", "there is no variable %()"),
        ("%(h)", "write %(h)s"),
        ("%(h) x", "write %(h)s"),
        ("%(uri) %(", "has a %( without its )"),
        ("%(uri) %(status", "has a %( without its )"),
        ("%(uri)\n", "control character"),
        ("%(uri)\x1b[0m", "control character"),
        ("%(uri)" + "x" * 1001, "too long"),
        ("%(uri)" + "\N{SNOWMAN}" * 400, "too long"),
        ("%(uri)" * 65, "too long"),
    ],
)
def test_what_is_no_format_is_refused(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(access_log_format=text)
    assert said in str(caught.value)
    assert str(caught.value).startswith(OPTION)
    assert "\n" not in str(caught.value)


def test_names_of_both_programs_differ() -> None:
    assert not UWSGI_VARIABLES & GUNICORN_VARIABLES
    assert not {"var", "i", "o", "e"} & (UWSGI_VARIABLES | GUNICORN_VARIABLES)


@given(st.text(alphabet="%()sd{}ioevar.uri h-\n\x00", max_size=30))
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        pieces = parse_format(OPTION, text)
    except SettingsError:
        return
    assert any(isinstance(piece, Variable) for piece in pieces)


def test_dash_is_no_file() -> None:
    """It is gunicorn's word for standard output."""
    with pytest.raises(SettingsError, match="write --access-log to have it"):
        Settings(access_log_file="-")


@pytest.mark.parametrize("status", ["404", "4xx", "5xx", "100", "599"])
def test_status_is_one_or_a_class(status: str) -> None:
    assert Settings(access_log_status=(status,)).access_log_status == (status,)


@pytest.mark.parametrize(
    "status", ["", "4", "40", "4x", "40x", "6xx", "0xx", "xxx", "600", "4XX", " 404", "404\n"]
)
def test_what_is_no_status_is_refused(status: str) -> None:
    with pytest.raises(SettingsError, match="--access-log-status"):
        Settings(access_log_status=(status,))
