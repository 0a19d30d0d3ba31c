"""Reads where the log goes (``--log-to``)."""

from __future__ import annotations

from typing import Final, TypeAlias

from uwsgibridge.config.address import (
    AddressError,
    TcpAddress,
    UnixAddress,
    parse_address,
)
from uwsgibridge.errors import SettingsError
from uwsgibridge.quick_dataclass import dataclass

# Where glibc's syslog(3) and Python's SysLogHandler find the daemon of the machine.
_DEV_LOG: Final = "/dev/log"

_FORMS: Final = "stderr, journald, syslog, syslog:/dev/log or syslog:192.0.2.1:514"


@dataclass(frozen=True, slots=True)
class StandardErrorTarget:
    """Standard error, or the file of ``--log-file``."""


@dataclass(frozen=True, slots=True)
class JournaldTarget:
    """The journal of systemd, by its own protocol."""


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """A daemon of syslog: that of the machine by its unix socket, another one by UDP."""

    address: UnixAddress | TcpAddress


LogTarget: TypeAlias = StandardErrorTarget | JournaldTarget | SyslogTarget


def parse_log_target(name: str, text: str) -> LogTarget:
    """Read one place where the log goes.

    Args:
        name: of the option, for the error.
        text: ``stderr``, ``journald``, ``syslog``, or ``syslog:`` and a path or an address.

    Raises:
        SettingsError: the text has none of these forms.
    """
    kind, colon, where = text.partition(":")
    if text == "stderr":
        return StandardErrorTarget()
    if text == "journald":
        return JournaldTarget()
    if kind != "syslog" or (colon and not where):
        raise SettingsError(f"{name} {text!r} is no place for a log; write {_FORMS}")
    if not colon:
        return SyslogTarget(UnixAddress(_DEV_LOG))
    if where.startswith(("tcp:", "tls:")):
        raise SettingsError(
            f"{name} {text!r}: syslog goes over UDP or a unix socket here; have the machine's own daemon forward it over TCP"
        )
    where = where.removeprefix("udp://")
    if ":" not in where and not where.startswith("/"):
        raise SettingsError(
            f"{name} {text!r}: the port is missing; syslog has 514: syslog:{where}:514"
        )
    try:
        address = parse_address(f"unix:{where}" if where.startswith("/") else where, forms=_FORMS)
    except AddressError as error:
        raise SettingsError(f"{name} {text!r}: {error}") from None
    if not isinstance(address, UnixAddress | TcpAddress):
        raise SettingsError(f"{name} {text!r} is no place for a log; write {_FORMS}")
    if isinstance(address, TcpAddress) and not address.port:
        raise SettingsError(f"{name} {text!r}: port 0 is nobody's; syslog has 514")
    return SyslogTarget(address)
