"""What the text of a value means to Nginx: sizes, times and addresses."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

_SIZE: Final = re.compile(r"(\d{1,15})([kKmMgG]?)")
_SIZE_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_TIME: Final = re.compile(r"(\d{1,12})(ms|[smhdwMy]|)\s*")
_TIME_UNITS: Final = {
    "ms": 0.001,
    "": 1,
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86_400,
    "w": 604_800,
    "M": 2_592_000,
    "y": 31_536_000,
}


def parse_size(text: str) -> int | None:
    """Read a size (ngx_parse_size): bytes, or k, m, g. None if it is none, such as a variable."""
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _SIZE_UNITS[found[2].lower()] if found else None


def parse_time(text: str) -> float | None:
    """Read a time in seconds (ngx_parse_time): ``65``, ``65s``, ``1m 5s``. None if it is none."""
    total = 0.0
    at = 0
    while at < len(text):
        found = _TIME.match(text, at)
        if found is None:
            return None
        total += int(found[1]) * _TIME_UNITS[found[2]]
        at = found.end()
    return total if text else None


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a ``uwsgi_pass`` or a ``server`` of an upstream names.

    Attributes:
        text: as it is written, without ``uwsgi://``.
        path: the path of a unix socket, or nothing.
        host: the name or the address (IPv6 without brackets), or nothing.
        port: the port, or nothing where none is written.
        is_tls: whether it was ``suwsgi://``.
    """

    text: str
    path: str = ""
    host: str = ""
    port: str = ""
    is_tls: bool = False

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address, if it is no name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_name(self) -> bool:
        """Whether DNS has to be asked for it."""
        return (
            bool(self.host)
            and self.ip is None
            and self.host != "localhost"
            and "$" not in self.host
        )


_HOST_AND_PORT: Final = re.compile(
    r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:/]*))(?::(?P<port>[^/]*))?(?:/.*)?"
)


def parse_peer(text: str) -> Peer:
    """Read an address in Nginx's form; what is strange becomes a host."""
    is_tls = text.startswith("suwsgi://")
    rest = text.removeprefix("suwsgi://").removeprefix("uwsgi://")
    if rest.startswith("unix:"):
        path = rest.removeprefix("unix:").removesuffix(":")
        return Peer(
            rest, path="/" + path.lstrip("/") if path.startswith("/") else path, is_tls=is_tls
        )
    found = _HOST_AND_PORT.fullmatch(rest)
    if found is None:
        return Peer(rest, host=rest, is_tls=is_tls)
    return Peer(rest, host=found["v6"] or found["host"], port=found["port"] or "", is_tls=is_tls)
