"""Versions of Nginx: how one is written, and since which one Nginx knows what the generator writes.

The versions are those of nginx's own CHANGES. A distribution may have put a directive into an older version.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from uwsgibridge.frontend.values import OptionError

Version: TypeAlias = tuple[int, int, int]

HTTP3: Final[Version] = (1, 25, 0)
# In earlier versions, HTTP/2 is a parameter of `listen` (ngx_http_v2_module).
HTTP2_DIRECTIVE: Final[Version] = (1, 25, 1)
# The oldest that nginx-acme is built for.
ACME: Final[Version] = (1, 25, 0)
RESOLVE: Final[Version] = (1, 27, 3)
SSL_CERTIFICATE_CACHE: Final[Version] = (1, 27, 4)
ADD_HEADER_INHERIT: Final[Version] = (1, 29, 3)
# The uwsgi module then makes HTTP_HOST of the host that Nginx has chosen its server by.
OWN_HTTP_HOST: Final[Version] = (1, 29, 5)
STICKY: Final[Version] = (1, 29, 6)
MAX_HEADERS: Final[Version] = (1, 29, 8)
LEAST_TIME: Final[Version] = (1, 31, 0)

_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")


def parse_version(text: str) -> Version:
    """Read the version of an Nginx, such as ``1.22.1`` or ``1.22``.

    Raises:
        OptionError: the text is no version.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        raise OptionError(f"--nginx-version {text!r} is not a version such as 1.22.1")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def dotted(version: Version) -> str:
    """Write a version as people do."""
    return ".".join(map(str, version))


def has(version: Version | None, since: Version) -> bool:
    """Whether a version has what came with another one; None is a current version."""
    return version is None or version >= since


def require(version: Version | None, since: Version, option: str, directive: str) -> None:
    """Refuse an option whose directive a version does not know.

    Args:
        version: that of `--nginx-version`; None is a current one.
        since: the first that has the directive.
        option: with its dashes.
        directive: as Nginx has it.

    Raises:
        OptionError: the version is older.
    """
    if version is not None and version < since:
        raise OptionError(
            f"{option} needs nginx {dotted(since)}, which is the first with {directive}; "
            f"--nginx-version {dotted(version)} does not know it"
        )
