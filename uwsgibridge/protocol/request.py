"""Makes a request of the vars of a packet.

The vars without ``HTTP_`` are the frontend's own, and no client can set them. So they are the trust boundary: address,
scheme, TLS and user come from them, and never from ``X-Forwarded-*``.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from uwsgibridge.fast import accelerator
from uwsgibridge.protocol.errors import BodyTooLarge, InvalidContentLength, ProtocolError
from uwsgibridge.protocol.packet import (
    MODIFIER_REQUEST,
    MODIFIER_REQUEST_STRIP_SCRIPT_NAME,
    Packet,
)

# No real size has more digits. int() of thousands of digits would take much time.
_MAX_LENGTH_DIGITS: Final = 18

# How many names of vars are remembered. Clients choose some names, and the memo is for those that all clients send. A
# name may have 64 KiB; the two bounds keep the memo below half a MiB.
_MAX_REMEMBERED_NAMES: Final = 1024
_MAX_REMEMBERED_NAME_BYTES: Final = 64


_NEVER_FROM_A_HEADER: Final = frozenset(
    {b"content-type", b"content-length", b"transfer-encoding", b"proxy"}
)


class _HeaderNames(dict[str, bytes | None]):
    """The lower-case name of the header for each var; None for a var that is no header."""

    def __missing__(self, key: str) -> bytes | None:
        name = key[5:].replace("_", "-").lower().encode("latin-1") if key[:5] == "HTTP_" else None
        if name in _NEVER_FROM_A_HEADER:
            name = None  # some frontend spells its vars in another way
        if len(key) <= _MAX_REMEMBERED_NAME_BYTES and len(self) < _MAX_REMEMBERED_NAMES:
            self[key] = name
        return name


header_names: Final = _HeaderNames()

# Values of the var HTTPS that mean TLS. uWSGI takes the first two; CGI's servers and wsgiref take the others.
# `uwsgi_param HTTPS $scheme` sends "https".
_HTTPS_WORDS: Final = frozenset({"on", "1", "true", "yes", "https"})

HTTP_VERSIONS: Final = {
    "HTTP/1.0": "1.0",
    "HTTP/1.1": "1.1",
    "HTTP/2.0": "2",
    "HTTP/2": "2",
    "HTTP/3.0": "3",
    "HTTP/3": "3",
}


# From spec_version 2.4 on, frameworks expect `send` to raise when the client has left, and do not wait for
# `http.disconnect`. So a silent stream would never end.
ASGI_VERSIONS: Final = {"version": "3.0", "spec_version": "2.3"}


class Request:
    """One request: its cleaned vars, and what follows from them.

    Attributes:
        vars: the vars, text in latin-1. There is no ``HTTP_CONTENT_TYPE`` and ``HTTP_CONTENT_LENGTH`` (the
            vars without ``HTTP_`` say the same), no ``HTTP_TRANSFER_ENCODING`` (the body arrives
            de-chunked) and no ``HTTP_PROXY`` (httpoxy). There are always ``REQUEST_METHOD``,
            ``SCRIPT_NAME`` (with no slash at its end), ``PATH_INFO``, ``QUERY_STRING``,
            ``SERVER_NAME``, ``SERVER_PORT`` and ``SERVER_PROTOCOL`` (PEP 3333, "environ
            Variables").
        content_length: bytes of body that follow the packet.
        cut: the SCRIPT_NAME that modifier1 30 has cut off PATH_INFO; unset where nothing was cut off.
        trace: what `telemetry` keeps with the request; unset where nothing is kept.
    """

    __slots__ = ("content_length", "cut", "trace", "vars")

    cut: str
    trace: object

    def __init__(self, packet: Packet, *, max_body_bytes: int = 0) -> None:
        """Take over the vars of a packet.

        Args:
            packet: its modifier1 is 0 or 30; its dict of vars belongs to the request from now on.
            max_body_bytes: the largest body that is accepted; 0 is no limit.

        Raises:
            InvalidContentLength: CONTENT_LENGTH is not a plain decimal number.
            BodyTooLarge: CONTENT_LENGTH is over `max_body_bytes`. Both errors have this request, which is
                complete but for its length.
        """
        self.vars = variables = packet.vars
        if accelerator is not None and packet.modifier1 == MODIFIER_REQUEST:
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
                # A path without a slash at its beginning gets this one, so that both together stay the same.
                variables["SCRIPT_NAME"] = script_name = script_name.rstrip("/")
                if path[:1] != "/":
                    variables["PATH_INFO"] = path = "/" + path
            if packet.modifier1 == MODIFIER_REQUEST_STRIP_SCRIPT_NAME and is_below(
                path, script_name
            ):
                variables["PATH_INFO"] = path[len(script_name) :]
                self.cut = script_name
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
        """``https`` or ``http``, by the vars alone.

        ``UWSGI_SCHEME`` wins, then ``HTTPS``, as in uWSGI's ``uwsgi_request_wsgi``. ``REQUEST_SCHEME`` comes last:
        the stock uwsgi_params always send it, and a line after them has to win.
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
        """The version of HTTP that the client spoke to the frontend: ``1.0``, ``1.1``, ``2`` or ``3`` (ASGI)."""
        return HTTP_VERSIONS.get(self.vars["SERVER_PROTOCOL"], "1.1")

    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the client; None where the frontend names none."""
        address = self.vars.get("REMOTE_ADDR")
        # nginx says "unix:" of a client that came over a unix socket.
        if not address or address == "unix:":
            return None
        return address, _port(self.vars.get("REMOTE_PORT", ""))

    @property
    def server(self) -> tuple[str, int]:
        """Name and port that the client addressed."""
        return self.vars["SERVER_NAME"], _port(self.vars["SERVER_PORT"])

    @property
    def path(self) -> str:
        """The whole decoded path as text, with SCRIPT_NAME (ASGI HTTP scope, ``path``).

        The bytes are UTF-8 by convention. Other bytes become U+FFFD here; ``raw_path`` has them exactly.
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
        """The part after the question mark, still encoded."""
        return self.vars["QUERY_STRING"].encode("latin-1")

    def http_scope(self) -> dict[str, Any]:
        """Build the part of an ASGI HTTP connection scope that follows from the vars.

        Returns:
            All keys of "HTTP Connection Scope" in the ASGI specification, except `state` and `extensions`.
        """
        if accelerator is not None:
            scope = accelerator.http_scope(self.vars, header_names, HTTP_VERSIONS, ASGI_VERSIONS)
            if scope is not None:
                return scope
        # This repeats the properties' code: to call them would cost as much as all the rest.
        variables = self.vars
        script_name = variables["SCRIPT_NAME"]
        path = script_name + variables["PATH_INFO"]
        return {
            "type": "http",
            "asgi": dict(ASGI_VERSIONS),
            "http_version": HTTP_VERSIONS.get(variables["SERVER_PROTOCOL"], "1.1"),
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
            Lower-case names and values as bytes, in the order of the wire; content-type and content-length once
            each, from the frontend's own vars.
        """
        names = header_names
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
        # nginx sends an empty SERVER_NAME where no server_name is configured, but PEP 3333 requires a name.
        host = self.vars.get("HTTP_HOST", "")
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        return name or self.vars.get("SERVER_ADDR") or "localhost"


def is_below(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or below it, at a path boundary: /foobar is not below /foo."""
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def _path_of_absolute_form(target: bytes) -> bytes:
    """Give the path of ``http://host/path``, the form of requests to proxies (RFC 9112, 3.2.2).

    nginx removes the part before the path, also where there is no path (``?x=1``). Apache sends the whole target.
    """
    _scheme, is_absolute, rest = target.partition(b"://")
    if not is_absolute:
        return target or b"/"
    return b"/" + rest.partition(b"/")[2]


def _as_utf8(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "replace")


def _port(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) <= 5 else 0
