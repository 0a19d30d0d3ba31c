"""The options of a generated Nginx configuration, which are checked here, so that the renderer trusts them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, fields
from typing import Final

from uwsgibridge.frontend.acme import Acme
from uwsgibridge.frontend.balancing import Balancing, Canary, is_name
from uwsgibridge.frontend.caching import Cache
from uwsgibridge.frontend.values import (
    OptionError,
    check_connectable,
    check_listen,
    check_path,
    check_resolver,
    check_server_name,
)
from uwsgibridge.frontend.versions import HTTP3, MAX_HEADERS, Version, parse_version, require

__all__ = [
    "Acme",
    "Balancing",
    "Cache",
    "Canary",
    "OptionError",
    "RateLimit",
    "Site",
    "StaticDirectory",
    "StatusLocation",
    "Tls",
    "parse_version",
]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
_URL_PREFIX: Final = re.compile(r"/(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*/)+")

_MIB: Final = 1024 * 1024


def _number(default: int, *, least: int = 1) -> int:
    """Make a field for a whole number that has a least value."""
    number: int = field(default=default, metadata={"least": least})
    return number


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
        check_path(self.directory, "--static")

    @classmethod
    def parse(cls, text: str, option: str = "--static") -> StaticDirectory:
        """Read it as an option has it: ``/static/=/srv/files``.

        Raises:
            OptionError: it has not this form, or a value can't go into a configuration.
        """
        url, equals, directory = text.partition("=")
        if not equals:
            raise OptionError(f"{option} {text!r} is not of the form /static/=/srv/files")
        return cls(url, directory)


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
    http3: bool = False
    hsts_seconds: int = 31_536_000
    # The authority whose client certificates are accepted; None asks for none.
    client_ca: str | None = None

    def __post_init__(self) -> None:
        for address in self.listen:
            check_listen(address, "--tls-listen")
        check_path(self.certificate, "--tls-certificate")
        check_path(self.certificate_key, "--tls-certificate-key")
        if self.client_ca is not None:
            check_path(self.client_ca, "--tls-client-ca")
        if self.http3 and not self.enabled:
            raise OptionError("--http3 goes with --tls: there is no HTTP/3 without it")
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
        check_connectable(self.address, "--status", "--status-bind")
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
    balancing: Balancing = field(default_factory=Balancing)
    # None has no canary, cache or ACME.
    canary: Canary | None = None
    cache: Cache | None = None
    acme: Acme | None = None
    # None leaves it to Nginx: 1000.
    max_headers: int | None = None
    # The version of the Nginx that has to understand the configuration; None is a current one.
    nginx_version: Version | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OptionError(f"--name {self.name!r} is not of the form letter, then a-z 0-9 _")
        if not self.upstreams:
            raise OptionError("--upstream names no address")
        for address in self.upstreams:
            check_connectable(address, "--upstream", "--bind")
        self._check_balancing()
        if not self.listen:
            raise OptionError("--listen names no address")
        for address in self.listen:
            check_listen(address, "--listen")
        if not self.server_names:
            raise OptionError("--server-name names no host")
        for name in self.server_names:
            check_server_name(name)
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
        if self.tls.http3:
            require(self.nginx_version, HTTP3, "--http3", "HTTP/3")
        if self.max_headers is not None:
            require(self.nginx_version, MAX_HEADERS, "--max-headers", "max_headers")
            if self.max_headers < 1:
                raise OptionError(f"--max-headers {self.max_headers} must be at least 1")
        if self.acme is not None:
            if not self.tls.enabled:
                raise OptionError("--acme goes with --tls, which it gets certificates for")
            self.acme.check(self.server_names, self.nginx_version)
        if self.cache is not None and self.balancing.cookie is not None:
            raise OptionError(
                "--cache and --sticky: each client gets a cookie, and a request with a cookie is not answered from the cache"
            )

    @property
    def needs_group(self) -> bool:
        """Whether an address alone can't say where requests go, so that they go to an upstream."""
        return len(self.upstreams) > 1 or not self.balancing.is_plain or self.canary is not None

    def _check_balancing(self) -> None:
        self.balancing.check(self.upstreams, self.resolver, self.nginx_version)
        new = self.canary.upstreams if self.canary is not None else ()
        if self.balancing.resolve and not any(map(is_name, (*self.upstreams, *new))):
            raise OptionError("--resolve: no --upstream and no --canary is a host name")
        for address in new:
            if address in self.upstreams:
                raise OptionError(f"--canary {address} is an address of --upstream, too")
        if self.resolver is None:
            return
        check_resolver(self.resolver, "--resolver")
        if not self.balancing.resolve and self.needs_group:
            raise OptionError(
                "--resolver goes with one --upstream alone, a name that has all addresses; --resolve (nginx 1.27.3) looks "
                "up the names of several, and of --balance, --sticky and --canary"
            )
