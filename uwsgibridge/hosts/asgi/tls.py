"""Gives what a frontend says about TLS in the form of the ASGI TLS extension.

Nginx ends TLS. Its configuration has to pass the facts on, as ``tls_params`` of the generated configuration
does: ``SSL_PROTOCOL``, ``SSL_CIPHER``, ``SSL_CLIENT_VERIFY``, ``SSL_CLIENT_S_DN`` and
``SSL_CLIENT_CERT`` (percent-encoded PEM).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

# The numbers of RFC 8446, section 4.1.2, and its predecessors.
_VERSIONS: Final = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def tls_extension(variables: Mapping[str, str]) -> dict[str, Any]:
    """Build ``scope["extensions"]["tls"]`` (ASGI specification, "TLS Extension", version 0.2).

    Args:
        variables: the vars of a request, which have ``SSL_PROTOCOL``.
    """
    verified = variables.get("SSL_CLIENT_VERIFY", "NONE")
    certificate = unquote(variables.get("SSL_CLIENT_CERT", ""))
    return {
        "server_cert": None,  # Nginx has no variable for its certificate
        "client_cert_chain": [certificate] if certificate else [],
        "client_cert_name": variables.get("SSL_CLIENT_S_DN") or None,
        # Nginx's values are NONE, SUCCESS and FAILED:reason.
        "client_cert_error": verified.removeprefix("FAILED:") if verified[:6] == "FAILED" else None,
        "tls_version": _VERSIONS.get(variables["SSL_PROTOCOL"]),
        "cipher_suite": _cipher_suites().get(variables.get("SSL_CIPHER", "")),
    }


@functools.cache
def _cipher_suites() -> dict[str, int]:
    """Give the numbers of the cipher suites by OpenSSL's names."""
    import ssl  # imported here: it takes megabytes, and few applications ask for this

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL")
    return {cipher["name"]: cipher["id"] & 0xFFFF for cipher in context.get_ciphers()}
