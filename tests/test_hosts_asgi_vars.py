"""The vars in an ASGI scope: a dict that is filled at the first look, however one looks."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from uwsgibridge.hosts.asgi_vars import UwsgiVars

TEXT = {"PATH_INFO": "/caf\xc3\xa9", "HTTP_COOKIE": "secret"}
BYTES = {b"PATH_INFO": b"/caf\xc3\xa9", b"HTTP_COOKIE": b"secret"}


def updated_by(variables: Any) -> dict[bytes, bytes]:
    plain: dict[bytes, bytes] = {}
    plain.update(variables)
    return plain


LOOKS: dict[str, tuple[Callable[[Any], object], object]] = {
    "[]": (lambda it: it[b"PATH_INFO"], BYTES[b"PATH_INFO"]),
    "get": (lambda it: it.get(b"PATH_INFO"), BYTES[b"PATH_INFO"]),
    "get-default": (lambda it: it.get(b"NOT_THERE", b"default"), b"default"),
    "in": (lambda it: b"PATH_INFO" in it, True),
    "not-in": (lambda it: "PATH_INFO" in it, False),
    "len": (len, 2),
    "bool": (bool, True),
    "iter": (list, [*BYTES]),
    "reversed": (lambda it: [*reversed(it)], [*reversed(BYTES)]),
    "keys": (lambda it: [*it.keys()], [*BYTES]),
    "values": (lambda it: [*it.values()], [*BYTES.values()]),
    "items": (lambda it: [*it.items()], [*BYTES.items()]),
    "==": (lambda it: it == BYTES, True),
    "==-reversed": (lambda it: BYTES == it, True),  # noqa: SIM300 - the order is what is tested
    "==-another": (lambda it: it == UwsgiVars(TEXT), True),
    "!=": (lambda it: it != BYTES, False),
    "!=-another": (lambda it: it != UwsgiVars({}), True),
    "|": (lambda it: it | {b"X": b"1"}, {**BYTES, b"X": b"1"}),
    "|-reversed": (lambda it: {b"X": b"1"} | it, {**BYTES, b"X": b"1"}),
    "|-another": (lambda it: it | UwsgiVars({"X": "1"}), {**BYTES, b"X": b"1"}),
    "**": (lambda it: {**it}, BYTES),
    "dict": (dict, BYTES),
    "update": (lambda it: it.update({b"PATH_INFO": b""}) or it, {**BYTES, b"PATH_INFO": b""}),
    "update-of-a-dict": (updated_by, BYTES),
    "copy": (lambda it: it.copy(), BYTES),
    "pop": (
        lambda it: (it.pop(b"PATH_INFO"), {**it}),
        (b"/caf\xc3\xa9", {b"HTTP_COOKIE": b"secret"}),
    ),
    "setdefault": (lambda it: it.setdefault(b"PATH_INFO", b""), BYTES[b"PATH_INFO"]),
    "set": (lambda it: it.__setitem__(b"PATH_INFO", b"") or it, {**BYTES, b"PATH_INFO": b""}),
    "delete": (lambda it: it.__delitem__(b"PATH_INFO") or it, {b"HTTP_COOKIE": b"secret"}),
    "|=": (lambda it: it.__ior__({b"PATH_INFO": b""}), {**BYTES, b"PATH_INFO": b""}),
    "popitem": (lambda it: it.popitem(), (b"HTTP_COOKIE", b"secret")),
    "clear": (lambda it: it.clear() or len(it), 0),
}


@pytest.mark.parametrize(("look", "seen"), LOOKS.values(), ids=LOOKS)
def test_each_look_may_be_the_first(look: Callable[[Any], object], seen: object) -> None:
    assert look(UwsgiVars(TEXT)) == seen


COPIES: dict[str, Callable[[UwsgiVars], UwsgiVars]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda it: pickle.loads(pickle.dumps(it)),
    "pickle-0": lambda it: pickle.loads(pickle.dumps(it, 0)),
}


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
def test_a_copy_has_the_same_content(
    make_copy: Callable[[UwsgiVars], UwsgiVars], *, looked_at: bool
) -> None:
    original = UwsgiVars(TEXT)
    if looked_at:
        original[b"X"] = b"1"
    copied = make_copy(original)
    assert type(copied) is UwsgiVars
    assert copied == original
    assert len(copied) == 2 + looked_at
    del copied[b"PATH_INFO"]
    assert b"PATH_INFO" in original


def test_what_is_not_there_is_a_key_error() -> None:
    variables = UwsgiVars(TEXT)
    for _ in range(2):
        with pytest.raises(KeyError, match="NOT_THERE"):
            variables[b"NOT_THERE"]


def test_values_are_not_shown() -> None:
    """A scope that is printed shows no cookies."""
    variables = UwsgiVars(TEXT)
    assert repr(variables) == str(variables) == "<2 uwsgi vars>"


def test_a_scope_that_nobody_has_looked_into_goes_through_json() -> None:
    scope = {"extensions": {"uwsgi": {"vars": UwsgiVars(TEXT)}}}
    assert json.dumps(scope) == '{"extensions": {"uwsgi": {"vars": {}}}}'
    assert json.dumps(copy.deepcopy(scope)) == json.dumps(scope)


def test_it_is_no_key() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(UwsgiVars(TEXT))
