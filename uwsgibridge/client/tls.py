"""What a caller says about TLS, as Nginx's ``uwsgi_ssl_*`` do for ``suwsgi://``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeAlias

_Path: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to speak TLS to a server; without a `ca` the connection is encrypted, and anybody may be at its other end.

    Attributes:
        ca: a file of certificates in PEM; one of them has to have signed the server's, which then is verified.
            None verifies nothing, as ``uwsgi_ssl_verify off`` does, Nginx's default.
        name: the name that the server's certificate has to have, and that is sent to the server (SNI, RFC 6066).
            None is the host of the address.
        certificate: a file with the client's certificate, and the chain behind it, in PEM.
        key: a file with the key of `certificate`. None where the key is in the certificate's file.

    Raises:
        ValueError: a key is there without a certificate, or the name is empty.
    """

    ca: _Path | None = None
    name: str | None = None
    certificate: _Path | None = None
    key: _Path | None = None

    def __post_init__(self) -> None:
        if self.key is not None and self.certificate is None:
            raise ValueError("A key (--tls-key) needs its certificate: give --tls-certificate, too")
        if self.name == "":
            raise ValueError(
                "The server's name (--tls-name) is empty: give one that its certificate has"
            )
