"""Parses addresses as the command line and configuration files have them."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from typing import Final, TypeAlias

from uwsgibridge.quick_dataclass import dataclass

# struct sockaddr_un holds 108 bytes with the final NUL on Linux, 104 on macOS.
MAX_UNIX_PATH_BYTES: Final = 107 if sys.platform == "linux" else 103

_MAX_FD_DIGITS: Final = 9

_TCP: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[^\[\]:/]*)):(?P<port>[0-9]+)"
)

FORMS: Final = "unix:/run/app.sock, 127.0.0.1:3031, [::1]:3031 or fd://3"
# The forms for a client, which has inherited no sockets.
FORMS_TO_CONNECT: Final = "unix:/run/app.sock, 127.0.0.1:3031 or [::1]:3031"


# `ngx_parse_unix_domain_url` of Nginx takes what stands behind unix: for a path.
_ABSTRACT: Final = (
    " is an abstract address, to which Nginx can't connect; write a path, for example unix:/run/app.sock "
    "(for a file whose name begins with @: unix:./@...)"
)


class AddressError(ValueError):
    """The text is no address; the message says what an address looks like."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (name, IPv4, or IPv6 without brackets) and a port; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class DescriptorAddress:
    """A listening socket that was inherited."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


Address: TypeAlias = TcpAddress | UnixAddress | DescriptorAddress


def parse_address(text: str, *, forms: str = FORMS) -> Address:
    """Read one address.

    Args:
        text: ``unix:/run/app.sock``, ``127.0.0.1:3031``, ``[::1]:3031``, ``:3031`` (all IPv4
            interfaces) or ``fd://3``.
        forms: examples for the error message.

    Raises:
        AddressError: the text has none of these forms.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        # unix:///path names the same file as unix:/path, which is Nginx's form.
        if path.startswith("//"):
            path = "/" + path.lstrip("/")
        if path.startswith("@"):
            raise AddressError(f"{text!r}{_ABSTRACT}")
        if path.endswith("/") or not path or "\0" in path:
            raise AddressError(f"{text!r} names no file; write for example unix:/run/app.sock")
        try:
            size = len(os.fsencode(path))
        except UnicodeEncodeError:
            raise AddressError(f"{text!r} is no path that a file can have") from None
        if size > MAX_UNIX_PATH_BYTES:
            raise AddressError(
                f"the path of {text!r} is too long for a unix socket: "
                f"{size} bytes, {MAX_UNIX_PATH_BYTES} fit"
            )
        return UnixAddress(path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not (number.isascii() and number.isdecimal() and len(number) <= _MAX_FD_DIGITS):
            raise AddressError(f"{text!r} names no descriptor; write for example fd://3")
        return DescriptorAddress(int(number))
    if text.startswith("@"):
        raise AddressError(f"{text!r}{_ABSTRACT}")
    match = _TCP.fullmatch(text)
    if match is None:
        raise AddressError(f"{text!r} is not an address; write {forms}{_hint(text)}")
    digits = match["port"].lstrip("0") or "0"
    if len(digits) > 5 or int(digits) > 65_535:
        raise AddressError(f"{text!r}: a port is at most 65535")
    return TcpAddress(match["v6"] or match["host"] or "0.0.0.0", int(digits))  # noqa: S104 - ":PORT" asks for it


def _hint(text: str) -> str:
    """Say which address was probably meant, as the end of a sentence."""
    if text.startswith(("/", "./")):
        return f"; for a unix socket write unix:{text}"
    scheme, is_url, rest = text.partition("://")
    if is_url:
        return f"; leave {scheme}:// out, and what comes behind the port" if rest else ""
    host, _, port = text.rpartition(":")
    if ":" in host and _is_ip(host) and port.isdecimal() and not host.startswith("["):
        return f"; an IPv6 address stands in brackets: [{host}]:{port}"
    if text.isascii() and text.isdecimal():
        return f"; an address stands before the port: 127.0.0.1:{text}"
    if text and _TCP.fullmatch(f"{text}:3031"):
        return f"; the port is missing: {text}:3031"
    return ""


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
