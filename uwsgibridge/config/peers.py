"""Reads who may connect: networks of TCP peers, and users at the other end of unix sockets."""

from __future__ import annotations

import ipaddress
import socket
from typing import TypeAlias

from uwsgibridge.errors import SettingsError
from uwsgibridge.system.privileges import user_id

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# An IPv6 address of at least so many fixed bits can be one of IPv4 in IPv6 (RFC 4291, section 2.5.5.2).
_MAPPED_BITS = 96


def parse_network(name: str, value: str) -> Network:
    """Read one network of ``--allow-from``.

    Args:
        name: of the option, for the message.
        value: ``10.0.0.0/8``, ``2001:db8::/32``, or an address, which is a network of its own.

    Raises:
        SettingsError: the value is no network, or is one that means something else than it seems to.
    """
    address, slash, length = value.partition("/")
    if "%" in address:
        raise SettingsError(
            f"{name} {value!r}: a network has no zone, and holds for all interfaces; leave "
            f"%{address.partition('%')[2]} out"
        )
    try:
        # Of "10.0.0.0/255.0.0.0" and "10.0.0.0/0.255.255.255", which Python takes, one is easily a slip.
        if slash and not (length.isascii() and length.isdecimal()):
            raise ValueError
        found = ipaddress.ip_network(value, strict=False)
        own = ipaddress.ip_address(address)
    except ValueError:
        raise SettingsError(
            f"{name} {value!r} is no network such as 10.0.0.0/8 or 2001:db8::/32, and no IP address"
        ) from None
    if own != found.network_address:
        raise SettingsError(
            f"{name} {value!r} has bits behind its /{found.prefixlen}: write {found} for the network, or {own} for "
            "that address alone"
        )
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= _MAPPED_BITS:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            raise SettingsError(
                f"{name} {value!r} is IPv4 written as IPv6: write {mapped}/{found.prefixlen - _MAPPED_BITS}"
            )
    return found


def parse_peer_user(name: str, value: str) -> int:
    """Find the number of a user of ``--allow-user``.

    Args:
        name: of the option, for the message.
        value: a name or a number.

    Raises:
        SettingsError: there is no such user, or the system does not tell who has connected.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        raise SettingsError(f"{name}: this system does not tell who has connected; Linux does")
    return user_id(value, name)
