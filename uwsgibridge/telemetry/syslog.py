"""Writes log events as messages of syslog.

The machine's daemon gets the form of syslog(3), which is what it takes at its unix socket. A daemon at a network address gets
RFC 5424, with the fields of the event as structured data.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from typing import Final, get_args

from uwsgibridge.config.address import TcpAddress, UnixAddress
from uwsgibridge.config.settings import Facility
from uwsgibridge.telemetry.datagrams import Datagrams
from uwsgibridge.telemetry.line_buffer import LineBuffer
from uwsgibridge.telemetry.logs import Event, as_json, timestamp, write_exception
from uwsgibridge.telemetry.sentence import PRIORITIES, as_sentence

# RFC 5424, section 6.2.1. The numbers between are the kernel's, the daemon's own, and those that few daemons have.
_NUMBERS: Final = dict(
    zip(get_args(Facility), (1, 2, 3, 4, 6, 7, 8, 9, 10, 11, *range(16, 24)), strict=True)
)
# rsyslog cuts what is longer, by default ($MaxMessageSize).
_MOST_BYTES: Final = 8192
_END_OF_CUT: Final = b"..."
# The number that RFC 5612 has for examples: there is none for this program, and the name before it says which it is.
_DATA_ID: Final = "uwsgibridge@32473"
# RFC 5424, section 6.3.3: what a name may not have.
_NO_NAME: Final = re.compile(r"[^!#-<>-\\^-~]")
_MOST_OF_NAME: Final = 32


class Syslog:
    """A daemon of syslog as a target of the log.

    Args:
        name: of the target, as the option has it.
        address: of the daemon.
        identifier: the name of the program in each message.
        facility: in each message.
        has_json: whether the message is the event as JSON.

    Attributes:
        buffer: keeps messages that the daemon has not taken yet.
    """

    def __init__(
        self,
        name: str,
        address: UnixAddress | TcpAddress,
        identifier: str,
        facility: Facility,
        *,
        has_json: bool,
    ) -> None:
        self._is_local = isinstance(address, UnixAddress)
        self._identifier = identifier
        self._facility = _NUMBERS[facility] * 8
        self._has_json = has_json
        self._host = socket.gethostname() or "-"
        where = address.path if isinstance(address, UnixAddress) else (address.host, address.port)
        self.buffer = LineBuffer(Datagrams(name, where))

    def tell(self, event: Event) -> None:
        """Send an event as a message."""
        write_exception(event)
        level = event["level"]
        if self._is_local:
            text = as_json(event) if self._has_json else as_sentence(event)
            self._send(level, text)
            return
        told: Event = {
            key: value for key, value in event.items() if key not in {"level", "timestamp", "event"}
        }
        below: Event = {it: told.pop(it) for it in ("line", "stack", "exception") if it in told}
        text = as_json(event) if self._has_json else as_sentence({"event": event["event"], **below})
        self._send(level, text, event["timestamp"], "" if self._has_json else _structured(told))

    def write_line(self, line: str) -> None:
        """Send a line of the access log as a message."""
        self._send("info", line.rstrip("\n"))

    def _send(self, level: str, text: str, time_of_event: str = "", data: str = "") -> None:
        priority = self._facility + PRIORITIES.get(level, PRIORITIES["error"])
        if self._is_local:
            # syslog(3): the local time, with English names, whatever the locale of the application is.
            now = time.localtime()
            month = (
                "Jan",
                "Feb",
                "Mar",
                "Apr",
                "May",
                "Jun",
                "Jul",
                "Aug",
                "Sep",
                "Oct",
                "Nov",
                "Dec",
            )[now.tm_mon - 1]
            head = f"<{priority}>{month} {now.tm_mday:2d} {time.strftime('%H:%M:%S', now)} {self._identifier}[{os.getpid()}]: "
        else:
            stamp = time_of_event or _now()
            head = f"<{priority}>1 {stamp} {self._host} {self._identifier} {os.getpid()} - {data or '-'} "
        message = (head + text).encode("utf-8", "backslashreplace")
        if len(message) > _MOST_BYTES:
            message = _cut(message)
        self.buffer.write(message)


def _now() -> str:
    from datetime import UTC, datetime  # imported here: lines of the access log alone need it

    return timestamp(datetime.now(UTC))


def _cut(message: bytes) -> bytes:
    kept = message[: _MOST_BYTES - len(_END_OF_CUT)]
    # Without the half of a character at its end.
    return kept.decode("utf-8", "ignore").encode() + _END_OF_CUT


def _structured(fields: Event) -> str:
    """Write fields as an element of structured data (RFC 5424, section 6.3)."""
    parts = []
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, default=repr)
        escaped = re.sub(r'([\\"\]])', r"\\\1", text)
        parts.append(f' {_NO_NAME.sub("_", str(name))[:_MOST_OF_NAME]}="{escaped}"')
    return f"[{_DATA_ID}{''.join(parts)}]" if parts else ""
