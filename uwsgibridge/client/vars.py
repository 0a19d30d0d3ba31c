"""Builds the vars of a request, as Nginx would send them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]


def build_vars(
    path: str,
    method: str,
    headers: Headers,
    body_bytes: int | None,
    overrides: Mapping[str, str | None],
) -> dict[str, str]:
    """Give the vars that nginx sends by ``uwsgi_params`` and ``ngx_http_uwsgi_create_request``, in that order."""
    # A path from the command line may have bytes that are no UTF-8, which are sent as they are.
    request_uri = path.encode("utf-8", "surrogateescape").decode("latin-1")
    raw_path, _, query_string = request_uri.partition("?")
    from_headers = {"HTTP_HOST": "localhost"}
    seen: set[str] = set()
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        key = "HTTP_" + name.upper().replace("-", "_")
        if key in seen:
            separator = "; " if key == "HTTP_COOKIE" else ", "
            from_headers[key] += separator + value
        else:
            from_headers[key] = value
            seen.add(key)
    if body_bytes is not None:
        from_headers.setdefault("HTTP_CONTENT_LENGTH", str(body_bytes))
    variables = {
        "QUERY_STRING": query_string,
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": from_headers.get("HTTP_CONTENT_TYPE", ""),
        "CONTENT_LENGTH": from_headers.get("HTTP_CONTENT_LENGTH", ""),
        "REQUEST_URI": request_uri,
        "PATH_INFO": unquote_to_bytes(raw_path.encode("latin-1")).decode("latin-1"),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_NAME": "localhost",
        **from_headers,
    }
    for name, override in overrides.items():
        if override is None:
            variables.pop(name, None)
        else:
            variables[name] = override
    return variables
