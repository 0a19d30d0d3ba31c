"""Messages between a supervisor, its templates and their workers; each message is one datagram.

The supervisor shares a socket pair with each template, and one with each worker. Each side ignores messages that
it does not know: after an upgrade in place, the two sides are of different versions.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import signal
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, Final

from uwsgibridge.config.settings import Settings
from uwsgibridge.link.figures import Figures
from uwsgibridge.quick_dataclass import dataclass

# A traceback fits; the sender cuts a longer text.
MAX_BYTES: Final = 65_536

# To a template: STOP asks it to end; CLOSE, before that, to close the listening sockets and report that.
STOP: Final = b"stop"
CLOSE: Final = b"close"

# To a worker. LAST and DRAIN come before a SIGTERM: LAST says that all workers end for good, DRAIN that
# this one ends.
PING: Final = b"ping"
STACKS: Final = b"stacks"
LAST: Final = b"last"
DRAIN: Final = b"drain"

# Sent to a worker that does not answer: its `faulthandler` then writes where the worker is. Nobody else sends this
# signal. SIGQUIT would be wrong, which an operator sends to all processes at once: CPython's handler changes errno
# under the code that it interrupts, and a second signal within it overflows the small stack that it runs on.
DUMP_SIGNAL: Final = getattr(signal, "SIGRTMAX", signal.SIGQUIT)  # macOS has no real-time signals

# How many descriptors come with the report of a fork.
FORK_DESCRIPTORS: Final = 3

# How many descriptors fit into one message (SCM_MAX_FD of Linux).
MAX_DESCRIPTORS: Final = 253

# Bytes for stacks: the other parts of a message take the rest.
_MAX_STACK_BYTES: Final = MAX_BYTES - 4096


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Tells a template what it runs.

    Attributes:
        app_name: the application as ``module:attribute``, if any beside the mounts.
        settings: with ``fd://`` addresses, which the template inherits.
        lifeline: a descriptor whose end of file says that the supervisor is gone.
        arguments: the command line, as `sys.argv` has it; an older supervisor does not send it.
        keeps_sockets: whether somebody else, such as systemd, has the listening sockets as well.
        is_rehearsal: whether workers come up and accept nothing.
        descriptors: for a spare template alone: the numbers of the descriptors that come with the blueprint.
        environment: for a spare template alone: the variables that have changed since it was forked; None is
            one that is gone.
        tls: the descriptor of what `connection.tls.TlsFiles` has; None without TLS.
    """

    app_name: str | None
    settings: Settings
    lifeline: int
    arguments: tuple[str, ...] = ()
    keeps_sockets: bool = False
    is_rehearsal: bool = False
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    tls: int | None = None

    def encode(self) -> bytes:
        """Make the bytes that `decode` reads."""
        return json.dumps(
            {
                "app_name": self.app_name,
                "settings": dataclasses.asdict(self.settings),
                "lifeline": self.lifeline,
                "arguments": self.arguments,
                "keeps_sockets": self.keeps_sockets,
                "is_rehearsal": self.is_rehearsal,
                "descriptors": self.descriptors,
                "environment": self.environment,
                "tls": self.tls,
            }
        ).encode()

    @staticmethod
    def directory_of(data: bytes) -> str:
        """Give the directory of ``--chdir`` from the bytes that `encode` has made; empty where there is none."""
        return str(json.loads(data)["settings"].get("chdir", ""))

    @staticmethod
    def decode(data: bytes) -> Blueprint:
        """Read the bytes that `encode` has made."""
        raw = json.loads(data)
        known = {one.name for one in dataclasses.fields(Settings)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in raw["settings"].items()
            if name in known
        }
        arguments = tuple(raw.get("arguments", ()))
        return Blueprint(
            raw["app_name"],
            Settings(**values),
            raw["lifeline"],
            arguments,
            bool(raw.get("keeps_sockets")),
            bool(raw.get("is_rehearsal")),
            tuple(raw.get("descriptors", ())),
            raw.get("environment", {}),
            raw.get("tls"),
        )


@dataclass(frozen=True, slots=True)
class Fork:
    """Asks a template for a worker.

    Attributes:
        max_requests: after how many requests the worker asks to be replaced; 0 is never.
        number: of the worker among those of its generation, from 1 on; 0 where an older supervisor asks.
    """

    max_requests: int = 0
    number: int = 0

    def encode(self) -> bytes:
        """Make the bytes that `decode` reads."""
        return json.dumps({"fork": dataclasses.asdict(self)}).encode()

    @staticmethod
    def decode(data: bytes) -> Fork | None:
        """Read the bytes that `encode` has made; None for any other bytes."""
        try:
            raw = json.loads(data)["fork"]
            return Fork(raw["max_requests"], raw.get("number", 0))
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Leave:
    """Asks a template, or a worker, to leave some of its listening sockets: nobody accepts there any more.

    Attributes:
        descriptors: of the sockets, as ``fd://`` addresses have them.
        begins: for a worker: False announces it, True has the worker leave the sockets now. All workers get
            the announcement first, because the first one that leaves refuses new connections for all of
            them.
    """

    descriptors: tuple[int, ...]
    begins: bool = False

    def encode(self) -> bytes:
        """Make the bytes that `decode` reads."""
        return json.dumps({"leave": dataclasses.asdict(self)}).encode()

    @staticmethod
    def decode(data: bytes) -> Leave | None:
        """Read the bytes that `encode` has made; None for any other bytes."""
        try:
            raw = json.loads(data)["leave"]
            return Leave(tuple(raw["descriptors"]), bool(raw["begins"]))
        except (ValueError, KeyError, TypeError):
            return None


class ReportEvent(StrEnum):
    """What a `Report` tells; the values are part of the messages.

    Attributes:
        FORKED: the worker is there; it sends this itself, with the descriptors of the link, the flights and the
            stack pipe.
        READY: the worker accepts; it sends this itself.
        EXITED: the worker has ended; the template sends this.
        CLOSED: the template has closed the listening sockets, as `CLOSE` asks.
        LEFT: the template has left the sockets that a `Leave` names.
        SIGNALLED: the template has got a signal that is the supervisor's to handle.
    """

    FORKED = "forked"
    READY = "ready"
    EXITED = "exited"
    CLOSED = "closed"
    LEFT = "left"
    SIGNALLED = "signalled"


@dataclass(frozen=True, slots=True)
class Report:
    """Reports what has happened to a worker, or to a template.

    Attributes:
        event: what has happened.
        pid: of the worker; 0 where the fork failed, and with all that is about the template.
        status: for `ReportEvent.EXITED`, as from `os.waitstatus_to_exitcode`: a negative one is a signal.
        end_seconds: for `ReportEvent.READY`, how long the worker's end may take at the most.
        number: for `ReportEvent.FORKED`, that of the request; 0 where an older template tells it. For
            `ReportEvent.SIGNALLED`, that of the signal.
        has_schedule: for `ReportEvent.READY`, whether the application has registered timers or crons of uWSGI.
    """

    event: ReportEvent
    pid: int
    status: int = 0
    end_seconds: float = 0.0
    number: int = 0
    has_schedule: bool = False

    def encode(self) -> bytes:
        """Make the bytes that `decode` reads."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Report | None:
        """Read the bytes that `encode` has made; None for any other bytes."""
        try:
            raw: dict[str, Any] = json.loads(data)
            return Report(
                ReportEvent(raw["event"]),
                raw["pid"],
                raw.get("status", 0),
                raw.get("end_seconds", 0.0),
                raw.get("number", 0),
                bool(raw.get("has_schedule")),
            )
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class WorkerMessage:
    """A message of a worker; each part may be missing.

    Attributes:
        figures: the answer to a ping.
        stacks: the answer to a request for stacks.
        has_enough: whether the worker has had as many requests as `Fork.max_requests` says.
        unfit: why the worker asks to be replaced; it serves on until then.
        answered: the number of the `Inquiry` whose answer is in its memory file; 0 for none.
    """

    figures: Figures | None = None
    stacks: str | None = None
    has_enough: bool = False
    unfit: str | None = None
    answered: int = 0

    def encode(self) -> bytes:
        """Make the bytes that `decode` reads."""
        figures = dataclasses.asdict(self.figures) if self.figures is not None else None
        stacks = _cut(self.stacks) if self.stacks is not None else None
        return json.dumps(
            {
                "figures": figures,
                "stacks": stacks,
                "has_enough": self.has_enough,
                "unfit": self.unfit,
                "answered": self.answered,
            }
        ).encode()

    @staticmethod
    def decode(data: bytes) -> WorkerMessage:
        """Read the bytes that `encode` has made; any other bytes are an empty message."""
        try:
            raw: dict[str, Any] = json.loads(data)
            figures = raw.get("figures")
            known = {one.name for one in dataclasses.fields(Figures)} & set(figures or ())
        except (ValueError, TypeError, AttributeError):
            return WorkerMessage()
        return WorkerMessage(
            Figures(**{name: figures[name] for name in known}) if figures else None,
            raw.get("stacks"),
            bool(raw.get("has_enough")),
            raw.get("unfit"),
            raw.get("answered", 0),
        )


def _cut(text: str) -> str:
    """Cut the end of a text that does not fit into a message, and say how much is missing."""
    if len(json.dumps(text)) <= _MAX_STACK_BYTES:
        return text
    # JSON takes between one and twelve bytes for a character, so each character is measured.
    room = _MAX_STACK_BYTES - 100
    kept = (
        bisect.bisect_right(range(len(text)), room, key=lambda end: len(json.dumps(text[:end]))) - 1
    )
    return f"{text[:kept]}\n[{len(text) - kept} more characters do not fit]"
