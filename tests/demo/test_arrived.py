"""What the demo shows of a request: complete, as JSON, and without secrets."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from uwsgibridge.demo.arrived import (
    MASK,
    environ_as_json,
    packet_size_bytes,
    scope_as_json,
    vars_as_json,
)
from uwsgibridge.protocol.packet import encode_packet

SECRET = "s3cr3t-value"
SECRET_NAMES = [
    "Cookie",
    "Authorization",
    "Proxy-Authorization",
    "X-Api-Key",
    "X-Auth-Token",
    "X-CSRF-Token",
    "X-Amz-Credential",
]


def var_name(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def scope_of(uwsgi_vars: dict[str, str]) -> dict[str, Any]:
    return {"type": "http", "extensions": {"uwsgi": {"vars": uwsgi_vars}}}


@pytest.mark.parametrize("header", SECRET_NAMES)
def test_secrets_are_masked_in_all_three(header: str) -> None:
    name = var_name(header)
    uwsgi_vars = {name: SECRET}
    scope = {**scope_of(uwsgi_vars), "headers": [(header.lower().encode(), SECRET.encode())]}

    assert environ_as_json({name: SECRET}) == {name: MASK}
    assert vars_as_json(scope) == {name: MASK}
    shown = scope_as_json(scope)
    assert shown["headers"] == [[header.lower(), MASK]]
    assert SECRET not in json.dumps(shown)


def test_what_is_no_secret_is_shown() -> None:
    scope = {
        **scope_of({"PATH_INFO": "/caf\xc3\xa9", "HTTP_HOST": "example.org"}),
        "headers": [(b"host", b"example.org")],
        "client": ("192.0.2.1", 4711),
    }

    assert vars_as_json(scope) == {"PATH_INFO": "/café", "HTTP_HOST": "example.org"}
    shown = scope_as_json(scope)
    assert shown["headers"] == [["host", "example.org"]]
    assert shown["client"] == ["192.0.2.1", 4711]


def test_an_empty_secret_is_shown_as_empty() -> None:
    assert environ_as_json({"HTTP_COOKIE": ""}) == {"HTTP_COOKIE": ""}


def test_bytes_that_are_not_utf8_are_shown_escaped() -> None:
    assert vars_as_json(scope_of({"PATH_INFO": "/\xff"})) == {"PATH_INFO": "/\\xff"}


def test_objects_are_shown_by_their_type_alone() -> None:
    environ = {
        "wsgi.input": io.BytesIO(SECRET.encode()),
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
    }

    assert environ_as_json(environ) == {
        "wsgi.input": "<_io.BytesIO>",
        "wsgi.version": [1, 0],
        "wsgi.multithread": True,
    }


def test_what_frameworks_add_is_left_out() -> None:
    assert environ_as_json({"werkzeug.request": object(), "PATH_INFO": "/"}) == {"PATH_INFO": "/"}
    assert scope_as_json({"type": "http", "app": object(), "state": {"password": SECRET}}) == {
        "type": "http"
    }


@pytest.mark.parametrize("scope", [{}, {"extensions": None}, {"extensions": {"tls": {}}}])
def test_without_uwsgi_vars_there_is_nothing_to_show(scope: dict[str, Any]) -> None:
    assert vars_as_json(scope) is None
    assert packet_size_bytes(scope) is None


def test_the_size_is_that_of_the_packet() -> None:
    uwsgi_vars = {"PATH_INFO": "/caf\xc3\xa9", "HTTP_HOST": "example.org", "QUERY_STRING": ""}

    assert packet_size_bytes(scope_of(uwsgi_vars)) == len(encode_packet(uwsgi_vars))
