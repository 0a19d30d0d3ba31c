"""Certificates for tests, in files as the options take them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme


@dataclass(frozen=True)
class Certificates:
    """Two authorities and what they have signed.

    Attributes:
        directory: has ``server.pem`` and ``server.key``, ``rsa.pem`` and ``rsa.key`` (both for ``backend``), ``client.pem`` and
            ``client.key``, ``ca.pem`` of their authority; and ``other.pem`` and ``other.key`` of another.
    """

    directory: Path

    @staticmethod
    def make(directory: Path) -> Certificates:
        """Make them."""
        authority, other = trustme.CA(), trustme.CA()
        made = {
            "server": authority.issue_cert("backend"),
            "rsa": authority.issue_cert("backend", key_type=trustme.KeyType.RSA),
            "client": authority.issue_cert("nginx"),
            "other": other.issue_cert("nginx"),
        }
        for name, one in made.items():
            one.private_key_pem.write_to_path(directory / f"{name}.key")
            chain = b"".join(it.bytes() for it in one.cert_chain_pems)
            (directory / f"{name}.pem").write_bytes(chain)
        authority.cert_pem.write_to_path(directory / "ca.pem")
        return Certificates(directory)

    def options(self, *, clients: bool = False) -> dict[str, Any]:
        """Give the fields of `Settings`, with or without certificates of clients."""
        return {
            "bind_tls_certificate": (str(self.directory / "server.pem"),),
            "bind_tls_key": (str(self.directory / "server.key"),),
            "bind_tls_client_ca": str(self.directory / "ca.pem") if clients else "",
        }

    def client(self, name: str = "") -> ssl.SSLContext:
        """Make the context of a client that has the certificate of that name, or none."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        if name:
            context.load_cert_chain(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        return context


def make_site_certificate(directory: Path) -> Path:
    """Make the certificate of a frontend's site, for ``example.org``, ``localhost`` and 127.0.0.1.

    Returns:
        The directory, which has ``cert.pem`` and ``key.pem`` then, and ``ca.pem`` of the authority.
    """
    authority = trustme.CA()
    made = authority.issue_cert("example.org", "localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(directory / "key.pem")
    (directory / "cert.pem").write_bytes(b"".join(it.bytes() for it in made.cert_chain_pems))
    authority.cert_pem.write_to_path(directory / "ca.pem")
    return directory
