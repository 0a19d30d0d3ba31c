"""The name of an application: a module or a file, an attribute, and the call of a factory."""

from __future__ import annotations

import pytest

from uwsgibridge.application.naming import Call, Target, parse_target, split_call
from uwsgibridge.errors import ApplicationError


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("site:app", Target("site", False, "app")),
        ("site", Target("site", False, "")),
        ("site:", Target("site", False, "")),
        ("a.b:c.d", Target("a.b", False, "c.d")),
        ("mysite.wsgi", Target("mysite.wsgi", False, "")),
        ("mysite.wsgi:app", Target("mysite.wsgi", False, "app")),
        ("app.py", Target("app.py", True, "")),
        ("app.py:", Target("app.py", True, "")),
        ("app.py:app", Target("app.py", True, "app")),
        ("./app.py:a.b", Target("./app.py", True, "a.b")),
        ("/srv/my (site)/app.py:app", Target("/srv/my (site)/app.py", True, "app")),
        ("/srv/x.py.d/app.py", Target("/srv/x.py.d/app.py", True, "")),
        ("./mysite.wsgi", Target("./mysite.wsgi", True, "")),
        ("/srv/mysite.wsgi:app", Target("/srv/mysite.wsgi", True, "app")),
        ("site:app.py", Target("site", False, "app.py")),
    ],
)
def test_where_something_stands(name: str, target: Target) -> None:
    assert parse_target(name) == target


@pytest.mark.parametrize("name", ["", ":app", "a/b", "a/b:app", "/srv/a:b/app.py"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ApplicationError, match=r"is not of the form module:attribute"):
        parse_target(name)


@pytest.mark.parametrize(
    ("name", "rest", "call"),
    [
        ("site:app", "site:app", None),
        ("site:make()", "site:make", Call([], {})),
        ("site:make ( )", "site:make", Call([], {})),
        ("site:make('a(b)')", "site:make", Call(["a(b)"], {})),
        ("site:make('x.py')", "site:make", Call(["x.py"], {})),
        ("site:make('./x.py:y')", "site:make", Call(["./x.py:y"], {})),
        ("site:make(1, a=2)", "site:make", Call([1], {"a": 2})),
        ("/srv/(a)/app.py", "/srv/(a)/app.py", None),
        ("/srv/(a)/app.py:make(1)", "/srv/(a)/app.py:make", Call([1], {})),
        ("app.py:make('a', b='.py')", "app.py:make", Call(["a"], {"b": ".py"})),
    ],
)
def test_a_call_is_split_off(name: str, rest: str, call: Call | None) -> None:
    assert split_call(name) == (rest, call)
