"""Writes log events as entries of systemd's journal, by its own protocol.

The protocol is that of systemd.io/JOURNAL_NATIVE_PROTOCOL, and the names of the fields are those of systemd.journal-fields(7).
It is written here since what there is (libsystemd, python-systemd, cysystemd, logging-journald) waits for a journal that does
not keep up, and a request would wait with it.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from uwsgibridge.telemetry.datagrams import Datagrams, send_by_memory_file
from uwsgibridge.telemetry.line_buffer import LineBuffer
from uwsgibridge.telemetry.logs import Event, write_exception
from uwsgibridge.telemetry.sentence import PRIORITIES, as_sentence

SOCKET: Final = "/run/systemd/journal/socket"

# Fields of an event that systemd has a name of its own for.
_NAMES: Final = {"request_id": "REQUEST_ID", "trace_id": "TRACE_ID", "span_id": "SPAN_ID"}
_NO_NAME: Final = re.compile(r"[^A-Z0-9_]")
# systemd takes no longer name (journal_field_valid).
_MOST_OF_NAME: Final = 64
_PLACE: Final = re.compile(r"(?P<file>.+):(?P<line>[0-9]+)")


class Journald:
    """The journal as a target of the log.

    Args:
        identifier: what the entries are found by (``journalctl -t``).
        path: of its socket.

    Attributes:
        buffer: keeps entries that the journal has not taken yet.
    """

    def __init__(self, identifier: str, path: str = SOCKET) -> None:
        self._identifier = identifier
        self.buffer = LineBuffer(Datagrams("journald", path, send_by_memory_file))

    def tell(self, event: Event) -> None:
        """Send an event as an entry."""
        self.buffer.write(encode(dict(fields_of(event, self._identifier))))

    def write_line(self, line: str) -> None:
        """Send a line of the access log as an entry."""
        entry = {
            "MESSAGE": line.rstrip("\n"),
            "PRIORITY": str(PRIORITIES["info"]),
            "SYSLOG_IDENTIFIER": self._identifier,
            "UWSGIBRIDGE_EVENT": "access",
        }
        self.buffer.write(encode(entry))


def fields_of(event: Event, identifier: str) -> Iterator[tuple[str, str]]:
    """Give the fields of an entry for an event."""
    write_exception(event)
    yield "MESSAGE", as_sentence(event)
    yield "PRIORITY", str(PRIORITIES.get(event["level"], PRIORITIES["error"]))
    yield "SYSLOG_IDENTIFIER", identifier
    place = _PLACE.fullmatch(str(event.get("where", "")))
    if place:
        yield "CODE_FILE", place["file"]
        yield "CODE_LINE", place["line"]
    for name, value in event.items():
        text = value if isinstance(value, str) else json.dumps(value, default=repr)
        known = _NAMES.get(name)
        yield (
            known or _NO_NAME.sub("_", f"UWSGIBRIDGE_{str(name).upper()}")[:_MOST_OF_NAME],
            text,
        )


def encode(fields: Mapping[str, str]) -> bytes:
    """Write an entry in the form of the journal."""
    parts = []
    for name, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), value))
    return b"".join(parts)
