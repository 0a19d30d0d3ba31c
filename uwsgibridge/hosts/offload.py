"""Has Nginx send files: ``X-Sendfile`` from the application becomes ``X-Accel-Redirect``.

The application names a file, as for Apache's mod_xsendfile (Flask's USE_X_SENDFILE). Nginx sends the file, which
takes no thread of the bridge. The file, with links resolved, must be below a mapped directory.

After the redirect, Nginx answers 200, 206 or 304, whatever status the application had
(``ngx_http_upstream_process_headers`` takes over some headers, but no status). So with any other status, such as a
page for 404, the bridge itself sends the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from uwsgibridge.hosts.opening import open_beneath
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.quick_dataclass import dataclass

_NAMES: Final = {b"x-sendfile", b"x-lighttpd-send-file"}

# The statuses by which Nginx answers with a file: it handles the ranges and conditions of the client's request.
_STATUSES_OF_NGINX: Final = frozenset({200, 206, 304})


@dataclass(frozen=True, slots=True, eq=False)
class NamedFile:
    """A file that an answer names.

    Attributes:
        headers: of the answer, without the file's name, and without the length of the application's body.
        is_sent_by_nginx: whether the headers redirect Nginx to the file; else the bridge sends the file in
            place of the application's body.
    """

    headers: list[tuple[bytes, bytes]]
    is_sent_by_nginx: bool
    _directory: Path
    _path: Path

    def open(self) -> IO[bytes]:
        """Open the file, which the bridge sends.

        Returns:
            A regular file, which the caller closes.

        Raises:
            InvalidResponse: the file can't be read, or a link has been put into its path since `Offload.find`.
        """
        path = self._directory / self._path
        try:
            descriptor = open_beneath(str(self._directory), self._path.parts)
        except OSError as error:
            raise InvalidResponse(
                f"X-Sendfile names {str(path)!r}, which can't be read: {error.strerror}"
            ) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InvalidResponse(f"X-Sendfile names {str(path)!r}, which is no regular file")
        return os.fdopen(descriptor, "rb", buffering=0)


class Offload:
    """The directories whose files Nginx can send.

    Args:
        directories: pairs of a URL prefix, an ``internal`` location of Nginx, and its directory.
    """

    def __init__(self, directories: Iterable[tuple[str, str]]) -> None:
        self._directories = [
            (url.rstrip("/") + "/", Path(directory).resolve()) for url, directory in directories
        ]

    def find(self, status: int, headers: list[tuple[bytes, bytes]]) -> NamedFile | None:
        """Look whether an answer names a file.

        Args:
            status: of the application.
            headers: of the application.

        Returns:
            The file, and the headers to send; None where the answer names no file.

        Raises:
            InvalidResponse: the file is below no mapped directory.
        """
        named = [value for name, value in headers if name.lower() in _NAMES]
        if not named or not self._directories:
            return None
        url, directory, path = self._locate(named[-1])
        dropped = {b"content-length", b"x-accel-redirect", *_NAMES}
        kept = [(name, value) for name, value in headers if name.lower() not in dropped]
        is_sent_by_nginx = status in _STATUSES_OF_NGINX
        if is_sent_by_nginx:
            location = url + quote(os.fsencode(path))
            kept.append((b"X-Accel-Redirect", location.encode("ascii")))
        return NamedFile(kept, is_sent_by_nginx, directory, path)

    def url_of(self, real_path: str) -> bytes | None:
        """Give the URL by which Nginx sends a file.

        Args:
            real_path: of the file, without links.

        Returns:
            The value of an X-Accel-Redirect; None where the file is below no mapped directory.
        """
        real = Path(real_path)
        for url, directory in self._directories:
            if real.is_relative_to(directory):
                return (url + quote(os.fsencode(real.relative_to(directory)))).encode("ascii")
        return None

    def _locate(self, name: bytes) -> tuple[str, Path, Path]:
        # realpath resolves ".." and links, none of which may lead out of the directory.
        refusal = InvalidResponse(
            f"X-Sendfile names {os.fsdecode(name)!r}, which is below no directory of --offload"
        )
        try:
            real = Path(os.path.realpath(os.fsdecode(name)))
        except ValueError:  # the name has a NUL
            raise refusal from None
        for url, directory in self._directories:
            if real.is_relative_to(directory):
                return url, directory, real.relative_to(directory)
        raise refusal
