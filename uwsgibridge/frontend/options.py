"""The options of a generated Nginx configuration, which are checked here, so that the renderer trusts them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, fields
from typing import Final

from uwsgibridge.config.address import (
    FORMS_TO_CONNECT,
    AddressError,
    DescriptorAddress,
    TcpAddress,
    parse_address,
)
from uwsgibridge.frontend.quoting import QuotingError, quote

# Forms of nginx's `listen`: a port, or an address and a port. `unix:` is not supported here.
_LISTEN: Final = re.compile(r"(?:(?:\*|[0-9.]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>\d{1,5})")
_SERVER_NAME: Final = re.compile(r"_|(?:\*\.|\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
_URL_PREFIX: Final = re.compile(r"/(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*/)+")
_RESOLVER: Final = re.compile(r"(?:[0-9.]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")

_MIB: Final = 1024 * 1024


def _number(default: int, *, least: int = 1) -> int:
    """Make a field for a whole number that has a least value."""
    number: int = field(default=default, metadata={"least": least})
    return number


class OptionError(ValueError):
    """A value cannot go into the configuration; the message names its option."""


@dataclass(frozen=True, slots=True)
class StaticDirectory:
    """A directory whose files Nginx sends itself.

    Args:
        url: the path of the directory's URL, such as ``/static/``; a slash at the end is added.
        directory: an absolute path, which Nginx's user can read.

    Raises:
        OptionError: a value can't go into a configuration.
    """

    url: str
    directory: str

    def __post_init__(self) -> None:
        # Both get a slash at the end: `location /static { alias /srv/www/; }` would serve /static../secret.
        object.__setattr__(self, "url", self.url.rstrip("/") + "/")
        object.__setattr__(self, "directory", self.directory.rstrip("/") + "/")
        if not _URL_PREFIX.fullmatch(self.url):
            raise OptionError(
                f"--static {self.url!r}: the URL part is a path such as /static/ "
                "of letters, digits and . _ ~ -, below the root"
            )
        _check_path(self.directory, "--static")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests one client address may send; further ones get 429."""

    enabled: bool = False
    requests_per_second: int = 20
    burst: int = 40

    def __post_init__(self) -> None:
        if self.requests_per_second < 1 or self.burst < 0:
            raise OptionError(f"--rate-limit {self.requests_per_second} must be at least 1")


@dataclass(frozen=True, slots=True)
class Tls:
    """Where Nginx speaks TLS, and with which certificate."""

    enabled: bool = False
    listen: tuple[str, ...] = ("443",)
    certificate: str = "/etc/nginx/tls/fullchain.pem"
    certificate_key: str = "/etc/nginx/tls/privkey.pem"
    http2: bool = False
    hsts_seconds: int = 31_536_000
    # The authority whose client certificates are accepted; None asks for none.
    client_ca: str | None = None

    def __post_init__(self) -> None:
        for address in self.listen:
            _check_listen(address, "--tls-listen")
        _check_path(self.certificate, "--tls-certificate")
        _check_path(self.certificate_key, "--tls-certificate-key")
        if self.client_ca is not None:
            _check_path(self.client_ca, "--tls-client-ca")
        if self.hsts_seconds < 0:
            raise OptionError(f"--hsts-seconds {self.hsts_seconds} must be at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusLocation:
    """Where Nginx publishes the status application of a bridge.

    Args:
        address: where the bridge answers, as its ``--status-bind``.
        url: the path below which its pages are; a slash at the end is added.
        allow: the addresses and networks that may ask; all others get 403.

    Raises:
        OptionError: a value can't go into a configuration.
    """

    address: str = "127.0.0.1:3032"
    url: str = "/-/status/"
    allow: tuple[str, ...] = ("127.0.0.1", "::1")

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/") + "/")
        _check_connectable(self.address, "--status", "--status-bind")
        if not _URL_PREFIX.fullmatch(self.url):
            raise OptionError(
                f"--status-location {self.url!r} is not a path such as /-/status/ of letters, digits and . _ ~ -, below "
                "the root"
            )
        if not self.allow:
            raise OptionError("--status-allow names no network")
        for network in self.allow:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise OptionError(
                    f"--status-allow {network!r} is not an address or a network such as 10.0.0.0/8, without bits behind "
                    "its length"
                ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One Nginx server in front of one bridge.

    Raises:
        OptionError: on construction, for a value that can't go into a configuration.
    """

    # Prefix of everything that Nginx keeps in one namespace: upstream, zones, variables.
    name: str = "uwsgibridge"
    upstreams: tuple[str, ...] = ("127.0.0.1:3031",)
    # The address of a DNS server: with one, Nginx looks the upstream's name up while it runs.
    resolver: str | None = None
    listen: tuple[str, ...] = ("80",)
    server_names: tuple[str, ...] = ("localhost",)
    static: tuple[StaticDirectory, ...] = ()
    static_max_age_seconds: int = _number(3600, least=0)
    # Internal locations: only an answer of the application that names a file reaches them (`--offload`).
    offload: tuple[StaticDirectory, ...] = ()
    # None publishes no status application.
    status: StatusLocation | None = None
    # 0 is no limit.
    client_max_body_bytes: int = _number(16 * _MIB, least=0)
    # When off, Nginx passes a body on while it arrives, so that a slow client holds a thread of the application.
    request_buffering: bool = True
    # When off, Nginx passes every piece of an answer on at once; X-Accel-Buffering: no does so for one answer.
    response_buffering: bool = True
    connect_timeout_seconds: int = _number(5)
    # Longer than the bridge's 60 s for a body and a write: the bridge ends the request first, and logs why.
    send_timeout_seconds: int = _number(65)
    read_timeout_seconds: int = _number(65)
    uwsgi_buffer_bytes: int = _number(32 * 1024)
    gzip: bool = True
    rate_limit: RateLimit = field(default_factory=RateLimit)
    tls: Tls = field(default_factory=Tls)
    # The version of the Nginx that has to understand the configuration; None is a current one.
    nginx_version: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OptionError(f"--name {self.name!r} is not of the form letter, then a-z 0-9 _")
        if not self.upstreams:
            raise OptionError("--upstream names no address")
        for address in self.upstreams:
            _check_upstream(address)
        if self.resolver is not None:
            if not _RESOLVER.fullmatch(self.resolver):
                raise OptionError(
                    f"--resolver {self.resolver!r} is not an address such as 127.0.0.11"
                )
            if len(self.upstreams) > 1:
                raise OptionError(
                    "--resolver goes with one --upstream: a name that has all addresses"
                )
        if not self.listen:
            raise OptionError("--listen names no address")
        for address in self.listen:
            _check_listen(address, "--listen")
        if not self.server_names:
            raise OptionError("--server-name names no host")
        for name in self.server_names:
            if not _SERVER_NAME.fullmatch(name):
                raise OptionError(f"--server-name {name!r} is not a host name such as example.org")
        urls = [one.url for one in (*self.static, *self.offload)]
        if self.status is not None:
            urls.append(self.status.url)
        for url in urls:
            if urls.count(url) > 1:
                raise OptionError(f"--static, --offload and --status-location name {url} twice")
        for one in fields(self):
            value, least = getattr(self, one.name), one.metadata.get("least")
            if least is not None and value < least:
                raise OptionError(
                    f"--{one.name.replace('_', '-')} {value} must be at least {least}"
                )


def parse_version(text: str) -> tuple[int, int, int]:
    """Read the version of an Nginx, such as ``1.22.1`` or ``1.22``.

    Raises:
        OptionError: the text is no version.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        raise OptionError(f"--nginx-version {text!r} is not a version such as 1.22.1")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def _check_upstream(text: str) -> None:
    _check_connectable(text, "--upstream", "--bind")


def _check_connectable(text: str, option: str, bound_by: str) -> None:
    """Check an address that Nginx connects to, which an option of the bridge has bound."""
    try:
        address = parse_address(text, forms=FORMS_TO_CONNECT)
    except AddressError as error:
        raise OptionError(f"{option}: {error}") from None
    if isinstance(address, DescriptorAddress):
        raise OptionError(
            f"{option} {text}: Nginx cannot connect to a descriptor; give the address that it is bound to"
        )
    if isinstance(address, TcpAddress):
        if not _HOST.fullmatch(address.host):
            raise OptionError(
                f"{option} {text!r}: {address.host!r} is not a host name or an address"
            )
        if address.port == 0:
            raise OptionError(f"{option} {text}: Nginx needs the port that {bound_by} has")
    else:
        _check_path(address.path, f"{option} unix:")


def _check_listen(text: str, option: str) -> None:
    match = _LISTEN.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        raise OptionError(f"{option} {text!r} is not a port or an address such as 127.0.0.1:8080")


def _check_path(path: str, option: str) -> None:
    if not path.startswith("/") or ".." in path.split("/"):
        raise OptionError(f"{option} {path!r} is not an absolute path without '..'")
    try:
        quote(path)
    except QuotingError as error:
        raise OptionError(f"{option} {path!r}: {error}") from None
