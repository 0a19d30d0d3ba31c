"""Chooses the way to a server: with TLS or without."""

from __future__ import annotations

from uwsgibridge.client.dialing import Address, dialable
from uwsgibridge.client.route import Route
from uwsgibridge.client.tls import Tls


def route_to(address: Address, tls: Tls | bool) -> Route:
    """Give the way to a server.

    Args:
        address: as a caller gives it.
        tls: True is ``Tls()``, and False is no TLS.

    Raises:
        ValueError: the address (as `AddressError`) is not valid, a file can't be read or has something else, or
            there is no name to verify.
    """
    target = dialable(address)
    if not tls:
        return Route(target)
    # It imports ssl, which is not needed without TLS; a Python that was built without OpenSSL has none.
    from uwsgibridge.client.tls_route import TlsRoute

    return TlsRoute(target, Tls() if tls is True else tls)
