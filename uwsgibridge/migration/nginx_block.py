"""Writes what Nginx needs to ask a server that another one's configuration describes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from uwsgibridge.migration.plan import Plan

_FILES_OF_A_CERTIFICATE: Final = 2
_PORT: Final = re.compile(r"(?P<host>.*):(?P<port>\d+)")
# Where a server listens whose configuration names HTTP ports alone.
SUGGESTED_BIND: Final = "127.0.0.1:3031"


def nginx_lines(plan: Plan) -> list[str]:
    """Write the location that asks this server; within a server block where Nginx has to take over HTTP ports."""
    binds = plan.values.get("bind", ())
    location = [
        "location / {",
        "    include uwsgi_params;",
        f"    uwsgi_pass {_upstream(binds)};",
        "}",
    ]
    if not plan.http:
        return location
    return [
        "server {",
        *(f"    {line}" for it in dict.fromkeys(plan.http) for line in _listening(it)),
        *(f"    {line}" for line in location),
        "}",
    ]


def _upstream(binds: Sequence[str]) -> str:
    """Give the first address in the form that Nginx connects to."""
    if not binds or binds[0].startswith("fd://"):
        return SUGGESTED_BIND
    first = binds[0]
    match = None if first.startswith("unix:") else _PORT.fullmatch(first)
    if match is not None and match["host"] in {"", "0.0.0.0", "[::]"}:  # noqa: S104 - it is compared
        return f"127.0.0.1:{match['port']}"
    return first


def _listening(text: str) -> list[str]:
    """Give the lines for what uWSGI listened on for HTTP; the files of a certificate may stand behind the address."""
    address, *files = [it.strip() for it in text.split(",")]
    if len(files) < _FILES_OF_A_CERTIFICATE:
        return [f"listen {_listen(address)};"]
    return [
        f"listen {_listen(address)} ssl;",
        f"ssl_certificate {files[0]};",
        f"ssl_certificate_key {files[1]};",
    ]


def _listen(address: str) -> str:
    """Give Nginx's form of an address."""
    if address.isdecimal():
        return address
    match = _PORT.fullmatch(address)
    if match is None:
        return f"unix:{address}" if address.startswith("/") else "80"
    return match["port"] if match["host"] in {"", "0.0.0.0", "*"} else address  # noqa: S104 - it is compared
