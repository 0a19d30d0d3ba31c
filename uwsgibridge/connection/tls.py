"""TLS of the listening sockets: reads certificates and keys, and makes the context of a process of them.

The files are read by who may read them, which is root where the service becomes another user. What was read goes on from
process to process in memory, since OpenSSL alone needs files.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.quick_dataclass import dataclass

_prepared: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TlsFiles:
    """What the files of the options have, as PEM.

    Attributes:
        pairs: each a certificate with its chain, and the key.
        client_ca: who signs clients' certificates; empty where clients need none.
    """

    pairs: Sequence[tuple[str, str]]
    client_ca: str

    @staticmethod
    def read(settings: Settings) -> TlsFiles:
        """Read the files.

        Raises:
            SettingsError: a file can't be read, or the options do not belong together.
        """
        certificates, keys = settings.bind_tls_certificate, settings.bind_tls_key
        if not certificates:
            raise SettingsError("TLS needs a --bind-tls-certificate beside its other options")
        if keys and len(keys) != len(certificates):
            raise SettingsError(
                f"--bind-tls-key is given {len(keys)} times, and --bind-tls-certificate {len(certificates)} times: each "
                "certificate has a key"
            )
        pairs = [
            (
                _read("--bind-tls-certificate", certificate),
                _read("--bind-tls-key", keys[i]) if keys else "",
            )
            for i, certificate in enumerate(certificates)
        ]
        client_ca = settings.bind_tls_client_ca
        return TlsFiles(pairs, _read("--bind-tls-client-ca", client_ca) if client_ca else "")

    def encode(self) -> bytes:
        """Make the bytes that `decode` reads."""
        return json.dumps({"pairs": self.pairs, "client_ca": self.client_ca}).encode()

    @staticmethod
    def decode(data: bytes) -> TlsFiles:
        """Read the bytes that `encode` has made."""
        raw = json.loads(data)
        return TlsFiles([(one[0], one[1]) for one in raw["pairs"]], raw["client_ca"])


def make_context(files: TlsFiles, settings: Settings) -> ssl.SSLContext:
    """Make what connections are accepted by.

    Args:
        files: what the files have.
        settings: name the files, for the message.

    Raises:
        SettingsError: a file has no certificate or no key, or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    for i, (certificate, key) in enumerate(files.pairs):
        named = f"--bind-tls-certificate {settings.bind_tls_certificate[i]}"
        if settings.bind_tls_key:
            named += f" with --bind-tls-key {settings.bind_tls_key[i]}"
        try:
            with _as_file(f"{certificate}\n{key}") as path:
                context.load_cert_chain(path, password=_no_password)
        except ssl.SSLError as error:
            raise SettingsError(f"{named}: {_why_no_pair(error)}") from None
        except _NeedsPasswordError:
            raise SettingsError(
                f"{named}: the key has a password, which nobody is there to type: write it without, in a file of "
                "root's"
            ) from None
    if files.client_ca:
        try:
            context.load_verify_locations(cadata=files.client_ca)
        except (ssl.SSLError, ValueError):
            raise SettingsError(
                f"--bind-tls-client-ca {settings.bind_tls_client_ca}: it has no certificate in PEM"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def prepare_context(settings: Settings, files: TlsFiles) -> None:
    """Make the context of this process and of those that it forks, so that each knows the sessions of the others.

    Raises:
        SettingsError: as `make_context`.
    """
    global _prepared  # noqa: PLW0603 - one for a process, which its workers inherit
    _prepared = make_context(files, settings)


def context_of(settings: Settings) -> ssl.SSLContext:
    """Give the context that was prepared; else make one.

    Raises:
        SettingsError: as `TlsFiles.read` and `make_context`.
    """
    return _prepared or make_context(TlsFiles.read(settings), settings)


class _NeedsPasswordError(Exception):
    pass


def _no_password() -> str:
    raise _NeedsPasswordError


def _why_no_pair(error: ssl.SSLError) -> str:
    match error.reason or "":  # None where OpenSSL has no name for it
        case "KEY_VALUES_MISMATCH":
            return "the key is not the certificate's"
        case "" | "NO_START_LINE" | "PEM_LIB":
            return "there is no certificate and key in PEM; of a chain, the own certificate comes first"
        case reason:
            return reason.lower().replace("_", " ")


def _read(option: str, path: str) -> str:
    try:
        return Path(path).read_text("ascii", errors="replace")
    except OSError as error:
        raise SettingsError(f"{option} {path}: {error.strerror}") from None


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Give the path of a file in memory, where the system has such: a key is not to come onto a disk anew."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("uwsgibridge-tls"), "wb", buffering=0) as memory:
            memory.write(text.encode())
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        with tempfile.NamedTemporaryFile("w") as file:  # of mode 0600
            file.write(text)
            file.flush()
            yield file.name
