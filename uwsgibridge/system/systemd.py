"""Speaks with systemd: notifications, the watchdog, inherited sockets.

A notification is one datagram of ``NAME=value`` lines (sd_notify(3)). The watchdog expects a notification again and
again (sd_watchdog_enabled(3)). Inherited sockets are the descriptors from 3 on (sd_listen_fds(3)). This needs no
library.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import field
from typing import Final

from uwsgibridge.errors import SettingsError
from uwsgibridge.quick_dataclass import dataclass

_NOTIFY_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_LISTEN_VARIABLES: Final = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")

# SD_LISTEN_FDS_START.
_FIRST_DESCRIPTOR: Final = 3

# systemd ignores a message over 4,096 bytes as a whole; a character has up to four.
_MAX_STATUS_CHARACTERS: Final = 1000

# A number of this form is below 2**64, which for systemd means no limit.
_WHOLE_NUMBER: Final = r"[0-9]{1,19}"


@dataclass(frozen=True, slots=True, eq=False)
class Notifier:
    """Tells systemd the state of the service; without systemd, does nothing.

    No method waits or raises: a message that can't be delivered at once is dropped, since serving goes on
    without it.

    Attributes:
        address: of systemd's socket; None without systemd.
        watchdog_seconds: how often to call `watchdog`, which is twice in the time after which systemd
            restarts the service; None where systemd does not watch.
        variables: the variables that were taken out of the environment.
    """

    address: str | None = None
    watchdog_seconds: float | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def from_environment(environ: MutableMapping[str, str]) -> Notifier:
        """Take systemd's variables out of the environment, so that no process started later uses them.

        Args:
            environ: such as `os.environ`; loses the variables.

        Raises:
            SettingsError: ``WATCHDOG_USEC`` is not a time.
        """
        variables = _pop_variables(environ, _NOTIFY_VARIABLES)
        address = _parse_address(variables.get("NOTIFY_SOCKET", ""))
        seconds = _parse_watchdog(variables) if address is not None else None
        return Notifier(address, seconds, variables)

    def restore(self, environ: MutableMapping[str, str]) -> None:
        """Put the variables back, for a program that is to take this process over by exec."""
        environ.update(self.variables)

    def ready(self, status: str) -> None:
        """Tell systemd that requests are served: after the start, and after a reload that succeeded or failed."""
        self._send("READY=1", _assign_status(status))

    def starting(self, seconds: float) -> None:
        """Ask systemd to wait for `ready` so long from now on, where ``TimeoutStartSec=`` is shorter (sd_notify(3))."""
        self._send(f"EXTEND_TIMEOUT_USEC={_microseconds(seconds)}")

    def reloading(self) -> None:
        """Tell systemd that a reload has begun; systemd then waits for `ready`."""
        # By this time, Type=notify-reload tells this reload from an earlier one (systemd.service(5)).
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, seconds: float | None = None) -> None:
        """Tell systemd that the service drains and will end.

        Args:
            seconds: how long that may take; ``TimeoutStopSec=`` counts where it is longer, or where this is
                None (sd_notify(3)).
        """
        extension = () if seconds is None else (f"EXTEND_TIMEOUT_USEC={_microseconds(seconds)}",)
        self._send("STOPPING=1", *extension)

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send(_assign_status(text))

    def watchdog(self) -> None:
        """Tell systemd that the service is alive."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if self.address is None:
            return
        message = "\n".join(assignments).encode("utf-8", "replace")
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            sender.setblocking(False)
            sender.sendto(message, self.address)


def inherited_sockets(environ: MutableMapping[str, str]) -> list[int]:
    """Take over the sockets on which systemd has listened for this process (socket activation).

    Programs started later do not inherit the sockets, unless the caller makes them do so.

    Args:
        environ: such as `os.environ`; loses the variables, also where they are meant for another process.

    Returns:
        Their descriptors, which the caller closes, in the order of the socket unit.

    Raises:
        SettingsError: the variables are not what sd_listen_fds(3) describes, or promise a descriptor
            that is not open.
    """
    variables = _pop_variables(environ, _LISTEN_VARIABLES)
    if "LISTEN_PID" not in variables or "LISTEN_FDS" not in variables:
        return []
    if _parse_number(variables, "LISTEN_PID") != os.getpid():
        return []
    end = _FIRST_DESCRIPTOR + _parse_number(variables, "LISTEN_FDS")
    descriptors = []
    for descriptor in range(_FIRST_DESCRIPTOR, end):
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            raise SettingsError(
                f"LISTEN_FDS={variables['LISTEN_FDS']}, but descriptor {descriptor} is not open; "
                "unset it, or have systemd set it with a socket unit"
            ) from None
        descriptors.append(descriptor)
    return descriptors


def _pop_variables(environ: MutableMapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: environ.pop(name) for name in names if name in environ}


def _parse_address(text: str) -> str | None:
    match text[:1]:
        case "/":
            return text
        case "@":
            return "\0" + text[1:]
        case _:  # "vsock:" is how a virtual machine speaks to its host
            return None


def _parse_watchdog(variables: Mapping[str, str]) -> float | None:
    if "WATCHDOG_USEC" not in variables:
        return None
    if variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = _parse_number(variables, "WATCHDOG_USEC")
    if microseconds == 0:
        raise SettingsError("WATCHDOG_USEC=0 is no time; unset it, or set WatchdogSec= in the unit")
    return microseconds / 2_000_000


def _parse_number(variables: Mapping[str, str], name: str) -> int:
    text = variables[name]
    if not re.fullmatch(_WHOLE_NUMBER, text):
        raise SettingsError(
            f"{name}={text!r} is not a whole number; unset it, or let systemd set it"
        )
    return int(text)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _assign_status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())[:_MAX_STATUS_CHARACTERS]
