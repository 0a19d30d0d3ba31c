"""Leaving files to Nginx: ``X-Sendfile`` from the application becomes ``X-Accel-Redirect``.

The application names a file, as it does for Apache's mod_xsendfile (Flask's USE_X_SENDFILE); Nginx
sends it, and no thread of ours is held. Only files below a mapped directory, whatever links say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from uwsgibridge.protocol.errors import InvalidResponse

_NAMES = {b"x-sendfile", b"x-lighttpd-send-file"}


class Offload:
    """The mapped directories.

    Args:
        directories: pairs of a URL prefix, an ``internal`` location of Nginx, and its directory.
    """

    def __init__(self, directories: Iterable[tuple[str, str]]) -> None:
        self._directories = [
            (url.rstrip("/") + "/", Path(directory).resolve()) for url, directory in directories
        ]

    def apply(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]] | None:
        """Rewrite the head of an answer that names a file.

        Args:
            headers: of the application.

        Returns:
            The headers with X-Accel-Redirect, and without the length of a body that is not sent;
            None where the answer names no file.

        Raises:
            InvalidResponse: the file is below no mapped directory.
        """
        named = [value for name, value in headers if name.lower() in _NAMES]
        if not named or not self._directories:
            return None
        location = self._locate(named[-1])
        dropped = {b"content-length", b"x-accel-redirect", *_NAMES}
        kept = [(name, value) for name, value in headers if name.lower() not in dropped]
        return [*kept, (b"X-Accel-Redirect", location.encode("ascii"))]

    def _locate(self, name: bytes) -> str:
        # realpath first: neither ".." nor a link may lead out of the directory.
        refusal = InvalidResponse(
            f"X-Sendfile names {os.fsdecode(name)!r}, which is below no directory of --offload"
        )
        try:
            real = Path(os.path.realpath(os.fsdecode(name)))
        except ValueError:  # a NUL
            raise refusal from None
        for url, directory in self._directories:
            if real.is_relative_to(directory):
                return url + quote(os.fsencode(real.relative_to(directory)))
        raise refusal
