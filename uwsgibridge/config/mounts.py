"""The forms of ``--mount`` and ``--offload``."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from uwsgibridge.errors import SettingsError

_QUERY_OR_FRAGMENT: Final = re.compile(r"[?#]")


def parse_mount(text: str) -> tuple[str, str]:
    """Split ``/prefix=module:attribute``.

    Returns:
        The prefix, as `parse_prefix` gives it, and the application.

    Raises:
        SettingsError: it is not of that form.
    """
    prefix, equals, app = text.partition("=")
    if not equals or not app or not prefix.startswith("/"):
        raise SettingsError(f"--mount {text!r} is not of the form /prefix=module:attribute")
    return parse_prefix(prefix), app


def parse_prefix(text: str) -> str:
    """Take the slash at the end off a prefix, so that ``/`` is the empty text.

    Raises:
        SettingsError: it does not begin with a slash, or is never the beginning of a path as Nginx
            passes it on: decoded, without a query, and with no ``//``, ``.`` and ``..`` in it.
    """
    if not text.startswith("/"):
        raise SettingsError(f"the prefix {text!r} does not begin with a slash (--mount)")
    prefix = text.rstrip("/")
    decoded = unquote(_QUERY_OR_FRAGMENT.split(prefix)[0])
    meant = "/" + posixpath.normpath(decoded).lstrip("/") if prefix else ""
    if prefix != meant:
        raise SettingsError(
            f"no path that Nginx passes on begins with {text!r}: write the prefix as {meant!r} (--mount)"
        )
    return prefix


def parse_offload(text: str) -> tuple[str, str]:
    """Split ``/protected=/srv/files``.

    Returns:
        The URL prefix and the directory.

    Raises:
        SettingsError: it is not of that form, or there is no such directory.
    """
    url, equals, directory = text.partition("=")
    if not equals or not url.startswith("/") or not url.strip("/"):
        raise SettingsError(f"--offload {text!r} is not of the form /url=/directory")
    if not Path(directory).is_dir():
        raise SettingsError(f"--offload {text!r}: there is no directory {directory!r}")
    return url, directory
