"""Parses the values of ``--mount``, ``--offload`` and ``--static``."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from uwsgibridge.errors import SettingsError

# A number of requests: 1 or more, and no more than a process has descriptors for.
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)

_QUERY_OR_FRAGMENT: Final = r"[?#]"


def parse_mount(text: str) -> tuple[str, str]:
    """Split ``/prefix=module:attribute``.

    Returns:
        The prefix, as `parse_prefix` gives it, and the application.

    Raises:
        SettingsError: the text does not have that form.
    """
    prefix, equals, app = text.partition("=")
    if not equals or not app or not prefix.startswith("/"):
        raise SettingsError(f"--mount {text!r} is not of the form /prefix=module:attribute")
    return parse_prefix(prefix), app


def parse_prefix(text: str, option: str = "--mount") -> str:
    """Remove the slash at the end of a prefix, so that ``/`` becomes the empty text.

    Args:
        text: the prefix.
        option: for the message of an error.

    Raises:
        SettingsError: the prefix does not begin with a slash, or no path from Nginx begins with it. Nginx
            passes paths on decoded, without a query, and without ``//``, ``.`` and ``..``.
    """
    if not text.startswith("/"):
        raise SettingsError(f"the prefix {text!r} does not begin with a slash ({option})")
    prefix = text.rstrip("/")
    decoded = unquote(re.split(_QUERY_OR_FRAGMENT, prefix)[0])
    meant = "/" + posixpath.normpath(decoded).lstrip("/") if prefix else ""
    if prefix != meant:
        raise SettingsError(
            f"no path that Nginx passes on begins with {text!r}: write the prefix as {meant!r} ({option})"
        )
    return prefix


def parse_mount_limit(text: str) -> tuple[str, int]:
    """Split ``/prefix=20``.

    Returns:
        The prefix, as `parse_prefix` gives it, and the number of requests.

    Raises:
        SettingsError: the text does not have that form.
    """
    prefix, equals, number = text.partition("=")
    if not equals or not _LIMIT.fullmatch(number):
        raise SettingsError(f"--mount-limit {text!r} is not of the form /prefix=20, with 1 or more")
    return parse_prefix(prefix, "--mount-limit"), int(number)


def check_health_path(text: str) -> None:
    """Refuse a path that no request from Nginx has.

    Raises:
        SettingsError: the path does not begin with a slash, or is not as Nginx passes it on.
    """
    try:
        parse_prefix(text if text == "/" else text.removesuffix("/"))
    except SettingsError:
        raise SettingsError(
            f"--health-path {text!r} is no path that Nginx passes on, such as /healthz"
        ) from None


def parse_offload(text: str) -> tuple[str, str]:
    """Split ``/protected=/srv/files``.

    Returns:
        The URL prefix and the directory.

    Raises:
        SettingsError: the text does not have that form, or there is no such directory.
    """
    url, equals, directory = text.partition("=")
    if not equals or not url.startswith("/") or not url.strip("/"):
        raise SettingsError(f"--offload {text!r} is not of the form /url=/directory")
    try:
        is_there = Path(directory).is_dir()
    except OSError as error:  # the user may not look there, or the name is too long
        raise SettingsError(f"--offload {text!r}: {directory!r}: {error.strerror}") from None
    if not is_there:
        raise SettingsError(f"--offload {text!r}: there is no directory {directory!r}")
    return url, directory


def parse_static(text: str) -> tuple[str, str]:
    """Split ``/static=/srv/static``.

    Whether there is such a directory or file is looked up for each request, since it may be made later.

    Returns:
        The prefix, as `parse_prefix` gives it, and the path of a directory or a file.

    Raises:
        SettingsError: the text does not have that form.
    """
    url, equals, path = text.partition("=")
    if not equals or not url.startswith("/") or not path or "\0" in path:
        raise SettingsError(f"--static {text!r} is not of the form /url=/directory or /url=/file")
    return parse_prefix(url, "--static"), path
