"""Certificates and keys as the supervisor has them: read at the start as root, and again at each reload where that may be."""

from __future__ import annotations

from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.tls import TlsFiles, make_context
from uwsgibridge.errors import SettingsError
from uwsgibridge.system import held_secret
from uwsgibridge.telemetry.logs import Logger


def hold_tls_files(settings: Settings) -> None:
    """Read the files for all templates; before privileges are dropped.

    What an earlier program in this process has read is taken where the files can't be read any more.

    Raises:
        SettingsError: a file can't be read, or has no certificate or key.
    """
    is_held = held_secret.take_over()
    try:
        files = TlsFiles.read(settings)
    except SettingsError:
        if is_held:
            return
        raise
    make_context(files, settings)
    held_secret.hold(files.encode())


def read_tls_files_again(settings: Settings, log: Logger) -> None:
    """Read the files for the templates from now on; a template itself says what is wrong with what they have."""
    try:
        files = TlsFiles.read(settings)
    except SettingsError as error:
        log.warning(
            "certificates can't be read again: those in memory are used",
            detail=str(error),
            hint="have the user of the service read them, or restart",
        )
        return
    held_secret.hold(files.encode())
