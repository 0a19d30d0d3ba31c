"""A request, from the vars of a packet.

The vars without ``HTTP_`` are the frontend's own words (a client can't set them) and so the trust
boundary: address, scheme, TLS and user come from them, and from no ``X-Forwarded-*``.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from uwsgibridge.fast import accelerator
from uwsgibridge.protocol.errors import BodyTooLarge, InvalidContentLength, ProtocolError
from uwsgibridge.protocol.packet import MODIFIER_REQUEST_STRIP_SCRIPT_NAME, Packet

# More digits than any size that exists; int() of thousands of them is a way to burn time.
_MAX_LENGTH_DIGITS: Final = 18

# Names of vars come from clients too: the memo is for the few that all of them send. A name may have
# 64 KiB; both bounds together keep the memo below half a MiB.
_MAX_REMEMBERED_NAMES: Final = 1024
_MAX_REMEMBERED_NAME_BYTES: Final = 64


_NEVER_FROM_A_HEADER: Final = frozenset(
    {b"content-type", b"content-length", b"transfer-encoding", b"proxy"}
)


class _HeaderNames(dict[str, bytes | None]):
    """The header's lower-case name for a var; None for a var that is no header."""

    def __missing__(self, key: str) -> bytes | None:
        name = key[5:].replace("_", "-").lower().encode("latin-1") if key[:5] == "HTTP_" else None
        if name in _NEVER_FROM_A_HEADER:
            name = None  # a frontend that spells its vars in a way of its own
        if len(key) <= _MAX_REMEMBERED_NAME_BYTES and len(self) < _MAX_REMEMBERED_NAMES:
            self[key] = name
        return name


_header_names: Final = _HeaderNames()

# Of the var HTTPS. uWSGI takes the first two, CGI's servers and wsgiref the others; "https" is what
# `uwsgi_param HTTPS $scheme` sends.
_HTTPS_WORDS: Final = frozenset({"on", "1", "true", "yes", "https"})

_HTTP_VERSIONS: Final = {
    "HTTP/1.0": "1.0",
    "HTTP/1.1": "1.1",
    "HTTP/2.0": "2",
    "HTTP/2": "2",
    "HTTP/3.0": "3",
    "HTTP/3": "3",
}


# From spec_version 2.4 on, frameworks leave it to `send` to raise once the client has left, and wait for
# `http.disconnect` no more: a stream that is silent would stay for ever.
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class Request:
    """One request: its vars, cleaned, and what follows from them.

    Attributes:
        vars: all vars, text in latin-1. Without ``HTTP_CONTENT_TYPE`` and ``HTTP_CONTENT_LENGTH``
            (they come in addition to the ones without ``HTTP_``), ``HTTP_TRANSFER_ENCODING`` (the
            body arrives de-chunked) and ``HTTP_PROXY`` (httpoxy). Always with ``REQUEST_METHOD``,
            ``SCRIPT_NAME`` (with no slash at its end), ``PATH_INFO``, ``QUERY_STRING``,
            ``SERVER_NAME``, ``SERVER_PORT`` and ``SERVER_PROTOCOL`` (PEP 3333, "environ
            Variables").
        content_length: bytes of body that follow the packet.
    """

    __slots__ = ("content_length", "vars")

    def __init__(self, packet: Packet, *, max_body_bytes: int = 0) -> None:
        """Take the vars of a packet over.

        Args:
            packet: with a modifier1 of 0 or 30; its dict of vars belongs to the request from now on.
            max_body_bytes: the largest body that is accepted; 0 is any.

        Raises:
            InvalidContentLength: CONTENT_LENGTH is not a plain decimal number.
            BodyTooLarge: CONTENT_LENGTH is over `max_body_bytes`. Both carry this request, whole but
                for its length.
        """
        self.vars = variables = packet.vars
        if accelerator is not None:
            content_length = accelerator.settle_vars(variables, max_body_bytes)
            if content_length is not None:
                self.content_length = content_length
                return
        drop = variables.pop
        drop("HTTP_PROXY", None)
        drop("HTTP_CONTENT_TYPE", None)
        drop("HTTP_CONTENT_LENGTH", None)
        drop("HTTP_TRANSFER_ENCODING", None)

        default = variables.setdefault
        if not default("REQUEST_METHOD", "GET"):
            variables["REQUEST_METHOD"] = "GET"
        default("QUERY_STRING", "")
        default("SERVER_PROTOCOL", "HTTP/1.1")
        script_name = default("SCRIPT_NAME", "")
        path = default("PATH_INFO", "" if script_name else "/")
        if script_name:
            if script_name[-1] == "/":
                # It is the first one of the path, where that has none: together they stay the same.
                variables["SCRIPT_NAME"] = script_name = script_name.rstrip("/")
                if path[:1] != "/":
                    variables["PATH_INFO"] = path = "/" + path
            if packet.modifier1 == MODIFIER_REQUEST_STRIP_SCRIPT_NAME and is_below(
                path, script_name
            ):
                variables["PATH_INFO"] = path[len(script_name) :]
        if not variables.get("SERVER_NAME"):
            variables["SERVER_NAME"] = self._fallback_server_name()
        if not variables.get("SERVER_PORT"):
            variables["SERVER_PORT"] = "443" if self.scheme == "https" else "80"

        self.content_length = 0
        length = variables.get("CONTENT_LENGTH")
        if not length:
            pass
        elif length.isdecimal() and len(length) <= _MAX_LENGTH_DIGITS:
            content_length = int(length)
            if 0 < max_body_bytes < content_length:
                raise self._refused(
                    BodyTooLarge(
                        f"the body has {length} bytes, the limit is {max_body_bytes}",
                        option="--max-body-bytes",
                    )
                )
            self.content_length = content_length
        else:
            raise self._refused(
                InvalidContentLength(f"CONTENT_LENGTH is {length[:40]!r}, not a decimal number")
            )

    @property
    def method(self) -> str:
        """The method as the client sent it; case matters (RFC 9110, section 9.1)."""
        return self.vars["REQUEST_METHOD"]

    @property
    def scheme(self) -> str:
        """``https`` or ``http``, from vars alone.

        ``UWSGI_SCHEME``, then ``HTTPS``, as in uWSGI's ``uwsgi_request_wsgi``; then ``REQUEST_SCHEME``,
        which the stock uwsgi_params always send, so that it must not overrule a line behind them.
        """
        variables = self.vars
        scheme = variables.get("UWSGI_SCHEME")
        if not scheme:
            https = variables.get("HTTPS")
            if https:
                return "https" if https.lower() in _HTTPS_WORDS else "http"
            scheme = variables.get("REQUEST_SCHEME") or "http"
        return scheme.lower()

    @property
    def http_version(self) -> str:
        """What the client spoke to the frontend: ``1.0``, ``1.1``, ``2`` or ``3`` (ASGI)."""
        return _HTTP_VERSIONS.get(self.vars["SERVER_PROTOCOL"], "1.1")

    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the client, or None where the frontend names none."""
        address = self.vars.get("REMOTE_ADDR")
        # "unix:" is what nginx says of a client that came over a unix socket.
        if not address or address == "unix:":
            return None
        return address, _port(self.vars.get("REMOTE_PORT", ""))

    @property
    def server(self) -> tuple[str, int]:
        """Name and port that the client addressed."""
        return self.vars["SERVER_NAME"], _port(self.vars["SERVER_PORT"])

    @property
    def path(self) -> str:
        """The whole decoded path as text, SCRIPT_NAME included (ASGI HTTP scope, ``path``).

        The bytes are UTF-8 by convention; what is not becomes U+FFFD, ``raw_path`` has it exactly.
        """
        return _as_utf8(self.vars["SCRIPT_NAME"] + self.vars["PATH_INFO"])

    @property
    def root_path(self) -> str:
        """The part of `path` that the application is mounted at (ASGI HTTP scope, ``root_path``)."""
        return _as_utf8(self.vars["SCRIPT_NAME"])

    @property
    def raw_path(self) -> bytes:
        """The path as the client sent it, without the query (ASGI HTTP scope, ``raw_path``)."""
        uri = self.vars.get("REQUEST_URI")
        if uri:
            raw = uri.encode("latin-1").partition(b"?")[0]
            return raw if raw[:1] == b"/" else _path_of_absolute_form(raw)
        path = self.vars["SCRIPT_NAME"] + self.vars["PATH_INFO"]
        return quote(path.encode("latin-1"), safe="/:@!$&'()*+,;=~").encode("ascii")

    @property
    def query_string(self) -> bytes:
        """What follows the question mark, still encoded."""
        return self.vars["QUERY_STRING"].encode("latin-1")

    def http_scope(self) -> dict[str, Any]:
        """Build the part of an ASGI HTTP connection scope that follows from the vars.

        Returns:
            What the ASGI specification has under "HTTP Connection Scope", but `state` and
            `extensions`.
        """
        if accelerator is not None:
            scope = accelerator.http_scope(self.vars, _header_names, _HTTP_VERSIONS, _ASGI)
            if scope is not None:
                return scope
        # Written out: the properties that say the same would cost as much again as the rest.
        variables = self.vars
        script_name = variables["SCRIPT_NAME"]
        path = script_name + variables["PATH_INFO"]
        return {
            "type": "http",
            "asgi": dict(_ASGI),
            "http_version": _HTTP_VERSIONS.get(variables["SERVER_PROTOCOL"], "1.1"),
            "method": variables["REQUEST_METHOD"].upper(),
            "scheme": self.scheme,
            "path": path if path.isascii() else _as_utf8(path),
            "raw_path": self.raw_path,
            "query_string": variables["QUERY_STRING"].encode("latin-1"),
            "root_path": script_name if script_name.isascii() else _as_utf8(script_name),
            "headers": self.header_pairs(),
            "client": self.client,
            "server": self.server,
        }

    def header_pairs(self) -> list[tuple[bytes, bytes]]:
        """List the client's headers.

        Returns:
            Lower-case names and values as bytes, in the order of the wire; content-type and
            content-length once each, from the vars that the frontend answers for.
        """
        names = _header_names
        variables = self.vars
        pairs = []
        for key, value in variables.items():
            name = names[key]
            if name is not None:
                pairs.append((name, value.encode("latin-1")))
        content_type = variables.get("CONTENT_TYPE")
        if content_type:
            pairs.append((b"content-type", content_type.encode("latin-1")))
        content_length = variables.get("CONTENT_LENGTH")
        if content_length:
            pairs.append((b"content-length", content_length.encode("latin-1")))
        return pairs

    def _refused(self, error: ProtocolError) -> ProtocolError:
        error.request = self
        return error

    def _fallback_server_name(self) -> str:
        # nginx sends an empty SERVER_NAME where no server_name is configured; PEP 3333 wants one.
        host = self.vars.get("HTTP_HOST", "")
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        return name or self.vars.get("SERVER_ADDR") or "localhost"


def is_below(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or below it, at a path boundary: /foo does not hold /foobar."""
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def _path_of_absolute_form(target: bytes) -> bytes:
    """Give the path of ``http://host/path``, the form that proxies are asked in (RFC 9112, 3.2.2).

    nginx has cut off what is in front of the path, also where there is none (``?x=1``); Apache sends it
    all.
    """
    _scheme, is_absolute, rest = target.partition(b"://")
    if not is_absolute:
        return target or b"/"
    return b"/" + rest.partition(b"/")[2]


def _as_utf8(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "replace")


def _port(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) <= 5 else 0
