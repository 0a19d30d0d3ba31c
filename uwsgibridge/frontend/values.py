"""Checks of single values that go into a configuration, so that no value becomes syntax."""

from __future__ import annotations

import re
from typing import Final

from uwsgibridge.config.address import (
    FORMS_TO_CONNECT,
    AddressError,
    DescriptorAddress,
    TcpAddress,
    parse_address,
)
from uwsgibridge.frontend.quoting import QuotingError, quote

# Forms of nginx's `listen`: a port, or an address and a port. `unix:` is not supported here.
_LISTEN: Final = re.compile(r"(?:(?:\*|[0-9.]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>\d{1,5})")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_RESOLVER: Final = re.compile(r"(?:[0-9.]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_SERVER_NAME: Final = re.compile(r"_|(?:\*\.|\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


class OptionError(ValueError):
    """A value cannot go into the configuration; the message names its option."""


def check_connectable(text: str, option: str, bound_by: str) -> None:
    """Check an address that a frontend connects to, which an option of the bridge has bound.

    Raises:
        OptionError: it is none.
    """
    try:
        address = parse_address(text, forms=FORMS_TO_CONNECT)
    except AddressError as error:
        raise OptionError(f"{option}: {error}") from None
    if isinstance(address, DescriptorAddress):
        raise OptionError(
            f"{option} {text}: a frontend cannot connect to a descriptor; give the address that it is bound to"
        )
    if isinstance(address, TcpAddress):
        if not _HOST.fullmatch(address.host):
            raise OptionError(
                f"{option} {text!r}: {address.host!r} is not a host name or an address"
            )
        if address.port == 0:
            raise OptionError(f"{option} {text}: the frontend needs the port that {bound_by} has")
    else:
        check_path(address.path, f"{option} unix:")


def check_listen(text: str, option: str) -> None:
    """Check where a frontend listens: a port, or an address and a port.

    Raises:
        OptionError: it is none.
    """
    match = _LISTEN.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        raise OptionError(f"{option} {text!r} is not a port or an address such as 127.0.0.1:8080")


def check_path(path: str, option: str) -> None:
    """Check an absolute path.

    Raises:
        OptionError: it is none, or no quoting keeps it from being syntax.
    """
    if not path.startswith("/") or ".." in path.split("/"):
        raise OptionError(f"{option} {path!r} is not an absolute path without '..'")
    try:
        quote(path)
    except QuotingError as error:
        raise OptionError(f"{option} {path!r}: {error}") from None


def check_resolver(text: str, option: str) -> None:
    """Check the address of a DNS server.

    Raises:
        OptionError: it is none.
    """
    if not _RESOLVER.fullmatch(text):
        raise OptionError(f"{option} {text!r} is not an address such as 127.0.0.11")


def check_server_name(text: str) -> None:
    """Check a host name that a site has.

    Raises:
        OptionError: it is none.
    """
    if not _SERVER_NAME.fullmatch(text):
        raise OptionError(f"--server-name {text!r} is not a host name such as example.org")
