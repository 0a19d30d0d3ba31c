"""Certificates that Nginx gets by itself: ACME (RFC 8555), with the module ngx_http_acme_module.

Source: https://nginx.org/en/docs/http/ngx_http_acme_module.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uwsgibridge.frontend.values import OptionError, check_resolver
from uwsgibridge.frontend.versions import ACME, Version, require

if TYPE_CHECKING:
    from collections.abc import Sequence

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"

_URL: Final = re.compile(r"https://[A-Za-z0-9.-]+(?::\d{1,5})?/[A-Za-z0-9._~/-]*")
_MAIL: Final = re.compile(r"[A-Za-z0-9.+_-]+@[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acme:
    """Who issues certificates, and to whom.

    Args:
        url: the directory of the ACME server.
        resolver: address of the DNS server by which Nginx finds it.
        contact: a mail address that the issuer may write to; None gives none.
        accepts_terms: whether the operator agrees to the issuer's terms of service.

    Raises:
        OptionError: a value can't go into a configuration.
    """

    url: str = LETS_ENCRYPT
    resolver: str
    contact: str | None = None
    accepts_terms: bool = False

    def __post_init__(self) -> None:
        if not _URL.fullmatch(self.url):
            raise OptionError(f"--acme {self.url!r} is not a URL such as {LETS_ENCRYPT}")
        if not self.resolver:
            raise OptionError(
                "--acme goes with --acme-resolver, the DNS server by which Nginx finds the ACME server"
            )
        check_resolver(self.resolver, "--acme-resolver")
        if self.contact is not None and not _MAIL.fullmatch(self.contact):
            raise OptionError(
                f"--acme-contact {self.contact!r} is not a mail address such as ops@example.org"
            )

    def check(self, server_names: Sequence[str], version: Version | None) -> None:
        """Hold it against the names of the site and Nginx's version.

        Raises:
            OptionError: no certificate can be had for a name.
        """
        require(version, ACME, "--acme", "ngx_http_acme_module")
        for name in server_names:
            if "." not in name.strip(".") or name.startswith(("*", ".")):
                raise OptionError(
                    f"--acme: there is no certificate for --server-name {name}; name each public host, without a wildcard"
                )
