"""Tells the content type of a file by its name.

A type has no charset: Nginx and uWSGI add none either, and a page may say in itself that it is not UTF-8, which a
header would overrule.
"""

from __future__ import annotations

import mimetypes
import os
from typing import Final

DEFAULT: Final = "application/octet-stream"

# Of what is compressed, the type of the archive: with a Content-Encoding, browsers would unpack a download.
_COMPRESSED: Final = {
    ".gz": "application/gzip",
    ".tgz": "application/gzip",
    ".svgz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".z": "application/x-compress",
    ".br": DEFAULT,
    ".zst": "application/zstd",
}

# Types that older versions of Python do not know, where the system has no list of types.
_NEWER: Final = {
    ".avif": "image/avif",
    ".map": "application/json",
    ".md": "text/markdown",
    ".otf": "font/otf",
    ".ttf": "font/ttf",
    ".vtt": "text/vtt",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}


def content_type(name: str) -> str:
    """Give the content type of a file.

    Types that the application has added to Python's `mimetypes` count, and those of the system's lists.

    Args:
        name: of the file, with or without its directory.
    """
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - the name is a text
    if extension in _COMPRESSED:
        return _COMPRESSED[extension]
    # Of the extension alone: a colon in a name would make a URL of it.
    found = mimetypes.guess_type(f"name{extension}")[0] if extension.isascii() else None
    return found or _NEWER.get(extension, DEFAULT)
