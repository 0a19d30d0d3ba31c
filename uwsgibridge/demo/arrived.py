"""Writes what arrived with a request as JSON values, with secrets masked.

Each demo application shows its own request by these functions: the uwsgi vars, the WSGI environ or the ASGI scope.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

MASK = "(masked)"

# Names of secrets. People make screenshots of the page, so that a name too many is better than one too few.
_SECRET_NAME = re.compile(
    r"auth|cookie|credential|csrf|jwt|passw|secret|session|signature|token|xsrf|api[-_]?key",
    re.IGNORECASE,
)

# What the ASGI specification lists for "http". Frameworks add objects of their own; `state` is the application's.
_SCOPE_KEYS = (
    "type",
    "asgi",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "headers",
    "client",
    "server",
    "extensions",
)


def environ_as_json(environ: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return a WSGI environ in its own order, without what Werkzeug has put there."""
    return {
        name: _as_json(value, name)
        for name, value in environ.items()
        if not name.startswith("werkzeug.")
    }


def scope_as_json(scope: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the keys of an ASGI HTTP scope that come from the server; bytes become text."""
    return {key: _as_json(scope[key], key) for key in _SCOPE_KEYS if key in scope}


def vars_as_json(scope: Mapping[str, Any]) -> dict[str, JsonValue] | None:
    """Return the uwsgi vars that a scope carries, or None where the server is no uwsgi server."""
    uwsgi_vars = _uwsgi_vars(scope)
    if uwsgi_vars is None:
        return None
    return {name: _as_json(value.encode("latin-1"), name) for name, value in uwsgi_vars.items()}


def packet_size_bytes(scope: Mapping[str, Any]) -> int | None:
    """Return the size of the uwsgi packet that holds these vars: 4 bytes of header, 2 before each name and value."""
    uwsgi_vars = _uwsgi_vars(scope)
    if uwsgi_vars is None:
        return None
    return 4 + sum(2 + len(name) + 2 + len(value) for name, value in uwsgi_vars.items())


def _uwsgi_vars(scope: Mapping[str, Any]) -> Mapping[str, str] | None:
    # These texts have a character for each byte, so that their length is the number of bytes.
    extension = (scope.get("extensions") or {}).get("uwsgi") or {}
    uwsgi_vars: Mapping[str, str] | None = extension.get("vars")
    return uwsgi_vars


def _as_json(value: object, name: str) -> JsonValue:
    if _SECRET_NAME.search(name) and value:
        return MASK
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return _text(value)
        case Mapping():
            return {_text(key): _as_json(item, _text(key)) for key, item in value.items()}
        case (bytes() as key, bytes() as item):  # one header of a scope
            return [_text(key), _as_json(item, _text(key))]
        case list() | tuple():
            return [_as_json(item, "") for item in value]
        case _:
            # No repr(): an object may print secrets that it holds.
            return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
