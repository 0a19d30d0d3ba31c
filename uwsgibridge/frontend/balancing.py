"""How requests are spread over several bridges: the method, sessions, names that DNS moves, and a canary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uwsgibridge.config.address import TcpAddress, parse_address
from uwsgibridge.frontend.values import OptionError, check_connectable
from uwsgibridge.frontend.versions import LEAST_TIME, RESOLVE, STICKY, Version, require

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUND_ROBIN: Final = "round-robin"
# Each method of `--balance` with its directive.
METHODS: Final = {
    ROUND_ROBIN: None,
    "least-conn": "least_conn",
    "least-time": "least_time header",
}
_COOKIE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancing:
    """How Nginx chooses among several bridges.

    Args:
        method: one of `METHODS`.
        cookie: name of the cookie that keeps a client at its bridge; None keeps no client.
        drain: the upstreams that get requests of their own clients alone, and no new clients.
        resolve: whether names are looked up again while Nginx runs.
    """

    method: str = ROUND_ROBIN
    cookie: str | None = None
    drain: tuple[str, ...] = ()
    resolve: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but round robin."""
        return self == Balancing()

    def check(
        self, upstreams: Sequence[str], resolver: str | None, version: Version | None
    ) -> None:
        """Hold the options against each other and against Nginx's version.

        Raises:
            OptionError: they don't fit.
        """
        if self.method not in METHODS:
            raise OptionError(f"--balance {self.method!r} is none of {', '.join(METHODS)}")
        if self.method == "least-time":
            require(version, LEAST_TIME, "--balance least-time", "least_time")
        if self.cookie is not None:
            require(version, STICKY, "--sticky", "sticky")
            if not _COOKIE.fullmatch(self.cookie):
                raise OptionError(f"--sticky {self.cookie!r} is not a cookie's name such as route")
        elif self.drain:
            raise OptionError(
                "--drain goes with --sticky: without it no client belongs to a bridge; leave the --upstream out"
            )
        for address in self.drain:
            if address not in upstreams:
                raise OptionError(f"--drain {address} is not an address of --upstream")
        if not set(upstreams) - set(self.drain):
            raise OptionError("--drain names each --upstream: new clients have nowhere to go")
        if self.resolve:
            require(version, RESOLVE, "--resolve", "resolve in an upstream")
            if resolver is None:
                raise OptionError("--resolve goes with --resolver, the DNS server to ask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Bridges with a new version of the application, which get a part of the clients.

    Args:
        upstreams: their addresses.
        percent: how many of a hundred clients they get, in steps of 0.01.

    Raises:
        OptionError: a value can't go into a configuration.
    """

    upstreams: tuple[str, ...]
    percent: float = 5.0

    def __post_init__(self) -> None:
        for address in self.upstreams:
            check_connectable(address, "--canary", "--bind")
        if not 0.01 <= self.percent <= 99.99 or round(self.percent, 2) != self.percent:
            raise OptionError(
                f"--canary-percent {self.percent:g} is not from 0.01 to 99.99, in steps of 0.01"
            )


def is_name(address: str) -> bool:
    """Whether DNS has to be asked for an address."""
    parsed = parse_address(address)
    if not isinstance(parsed, TcpAddress) or parsed.host == "localhost":
        return False
    return ":" not in parsed.host and not parsed.host.replace(".", "").isdigit()
