"""Rules about who says who a client is: vars without ``HTTP_`` are Nginx's own word, unless it takes them from a header."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from uwsgibridge.frontend.check.finding import Case, Found, Severity, for_way
from uwsgibridge.frontend.check.rules.params import SCHEMES, params_of
from uwsgibridge.frontend.check.tree import Way

# What the client wrote and Nginx has not looked at.
_CLIENTS_WORD: Final = re.compile(r"\$\{?(?:http_|proxy_add_x_forwarded_for)")


@for_way(
    "client-says-address",
    Severity.WARNING,
    "REMOTE_ADDR is taken from a header, which any client can send.",
)
def _address(_case: Case, way: Way) -> Iterator[Found]:
    param = params_of(way).get("REMOTE_ADDR")
    if param is not None and _CLIENTS_WORD.search(param.args[1]):
        yield Found(
            param,
            "any client can send that header and be any address; real_ip_header with set_real_ip_from believes a balancer only",
            "uwsgi_param REMOTE_ADDR $remote_addr;",
        )


@for_way(
    "client-says-user",
    Severity.WARNING,
    "REMOTE_USER or SSL_CLIENT_... is a client's header, or the name of a `Authorization` that Nginx has not checked.",
)
def _user(_case: Case, way: Way) -> Iterator[Found]:
    for name, param in params_of(way).items():
        if name not in {"REMOTE_USER", "AUTH_USER"} and not name.startswith("SSL_CLIENT_"):
            continue
        if _CLIENTS_WORD.search(param.args[1]):
            reason = f"any client can send that header, and be any {name}"
        elif param.args[1] == "$remote_user" and not _is_authenticated(way):
            reason = "$remote_user is what the client says in Authorization, and nothing here checks the password"
        else:
            continue
        yield Found(
            param, reason, 'auth_basic "name";  # with auth_basic_user_file, or remove the line'
        )


def _is_authenticated(way: Way) -> bool:
    return any(
        directive.name.startswith("auth_") and directive.value != "off"
        for level in way.level.around()
        for directive in level.own
    )


@for_way(
    "client-says-scheme",
    Severity.NOTICE,
    "The scheme is taken from a header, and no `set_real_ip_from` says that a balancer is in front.",
)
def _scheme(_case: Case, way: Way) -> Iterator[Found]:
    if way.level.all("set_real_ip_from"):
        return
    for name in SCHEMES:
        param = params_of(way).get(name)
        if param is not None and _CLIENTS_WORD.search(param.args[1]):
            yield Found(
                param,
                f"where clients reach this Nginx themselves, they choose {name} by that header",
                "set_real_ip_from 10.0.0.0/8;  # the balancer's network; nobody else may reach this port",
            )
