"""What Apache and lighttpd are told of a site; checked here, so that their renderers trust it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from uwsgibridge.config.address import TcpAddress, UnixAddress, parse_address
from uwsgibridge.frontend.options import StaticDirectory
from uwsgibridge.frontend.values import (
    OptionError,
    check_connectable,
    check_listen,
    check_path,
    check_server_name,
)

# In both files these end a word, begin a variable, or begin an escape.
_SYNTAX: Final = re.compile(r'["\\$%\x00-\x1f\x7f]')
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Where the frontend speaks TLS, and with which certificate."""

    file: str
    key: str
    listen: tuple[str, ...] = ("443",)

    def __post_init__(self) -> None:
        _check_plain_path(self.file, "--tls-certificate")
        _check_plain_path(self.key, "--tls-certificate-key")
        for address in self.listen:
            check_listen(address, "--tls-listen")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherSite:
    """One site of Apache or lighttpd in front of one or several bridges.

    Raises:
        OptionError: on construction, for a value that can't go into a configuration.
    """

    name: str = "uwsgibridge"
    upstreams: tuple[str, ...] = ("127.0.0.1:3031",)
    listen: tuple[str, ...] = ("80",)
    # None of them: every host.
    server_names: tuple[str, ...] = ()
    static: tuple[StaticDirectory, ...] = ()
    # 0 is no limit.
    client_max_body_bytes: int = 16 * _MIB
    connect_timeout_seconds: int = 5
    # Longer than the bridge's 60 s for a write: the bridge ends the request first, and logs why.
    read_timeout_seconds: int = 65
    tls: Certificate | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OptionError(f"--name {self.name!r} is not of the form letter, then a-z 0-9 _")
        if not self.upstreams:
            raise OptionError("--upstream names no address")
        for upstream in self.upstreams:
            check_connectable(upstream, "--upstream", "--bind")
            address = parse_address(upstream)
            if isinstance(address, UnixAddress):
                _check_plain_path(address.path, "--upstream unix:")
        for listen in self.listen:
            check_listen(listen, "--listen")
        for name in self.server_names:
            check_server_name(name)
            if name == "_" or name.startswith("."):
                raise OptionError(
                    f"--server-name {name} is a form of Nginx's: leave it out for every host, or name *.example.org"
                )
        for static in self.static:
            _check_plain_path(static.directory, "--static")
        if self.client_max_body_bytes < 0:
            raise OptionError(
                f"--client-max-body-bytes {self.client_max_body_bytes} must be at least 0"
            )
        if self.read_timeout_seconds < 1:
            raise OptionError(
                f"--read-timeout-seconds {self.read_timeout_seconds} must be at least 1"
            )

    @property
    def addresses(self) -> tuple[UnixAddress | TcpAddress, ...]:
        """The upstreams, taken apart."""
        parsed = [parse_address(upstream) for upstream in self.upstreams]
        return tuple(one for one in parsed if isinstance(one, (UnixAddress, TcpAddress)))


def _check_plain_path(path: str, option: str) -> None:
    check_path(path, option)
    found = _SYNTAX.search(path)
    if found is not None:
        raise OptionError(f"{option} {path!r}: {found[0]!r} means something in the configuration")
