"""What a supervisor, its templates and their workers say to each other, each in one datagram.

A template and the supervisor share a socket pair, and so do the supervisor and each worker. Whoever
reads ignores what it does not know: after an upgrade in place the two ends are of different versions.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import signal
from dataclasses import dataclass
from typing import Any, Final

from uwsgibridge.config.settings import Settings
from uwsgibridge.link.figures import Figures

# A traceback fits; what is longer is cut by the sender.
MAX_BYTES: Final = 65_536

# To a template: to end; and before that, to close the listening sockets and say so.
STOP: Final = b"stop"
CLOSE: Final = b"close"

# To a worker. LAST and DRAIN come before a SIGTERM: LAST says that all workers end for good, DRAIN that
# this one ends.
PING: Final = b"ping"
STACKS: Final = b"stacks"
LAST: Final = b"last"
DRAIN: Final = b"drain"

# To a worker that does not answer: `faulthandler` tells where it is. A signal that nobody else sends, not
# SIGQUIT, which an operator sends to all processes at once: in CPython the handler changes errno under the
# code that it interrupts, and a second signal within it overflows the small stack that it runs on.
DUMP_SIGNAL: Final = getattr(signal, "SIGRTMAX", signal.SIGQUIT)  # macOS has no real-time signals

# Descriptors that come with the report of a fork.
FORK_DESCRIPTORS: Final = 3

# What is left for stacks beside the other parts of a message.
_MAX_STACK_BYTES: Final = MAX_BYTES - 4096


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a template is to run.

    Attributes:
        app_name: the application as ``module:attribute``, if any beside the mounts.
        settings: with ``fd://`` addresses, which the template inherits.
        lifeline: a descriptor whose end of file says that the supervisor is gone.
        arguments: the command line, as `sys.argv` has it; an older supervisor does not tell.
        keeps_sockets: whether somebody else has the listening sockets, too, such as systemd.
        is_rehearsal: whether workers are to come up and to accept nothing.
    """

    app_name: str | None
    settings: Settings
    lifeline: int
    arguments: tuple[str, ...] = ()
    keeps_sockets: bool = False
    is_rehearsal: bool = False

    def encode(self) -> bytes:
        """Write it for `decode`."""
        return json.dumps(
            {
                "app_name": self.app_name,
                "settings": dataclasses.asdict(self.settings),
                "lifeline": self.lifeline,
                "arguments": self.arguments,
                "keeps_sockets": self.keeps_sockets,
                "is_rehearsal": self.is_rehearsal,
            }
        ).encode()

    @staticmethod
    def decode(data: bytes) -> Blueprint:
        """Read what `encode` wrote."""
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
        )


@dataclass(frozen=True, slots=True)
class Fork:
    """Asks a template for a worker.

    Attributes:
        max_requests: at how many the worker says that it has had enough; 0 is never.
    """

    max_requests: int = 0

    def encode(self) -> bytes:
        """Write it for `decode`."""
        return json.dumps({"fork": dataclasses.asdict(self)}).encode()

    @staticmethod
    def decode(data: bytes) -> Fork | None:
        """Read what `encode` wrote; None for anything else."""
        try:
            return Fork(json.loads(data)["fork"]["max_requests"])
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
        """Write it for `decode`."""
        return json.dumps({"leave": dataclasses.asdict(self)}).encode()

    @staticmethod
    def decode(data: bytes) -> Leave | None:
        """Read what `encode` wrote; None for anything else."""
        try:
            raw = json.loads(data)["leave"]
            return Leave(tuple(raw["descriptors"]), bool(raw["begins"]))
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Report:
    """Something that happened to a worker.

    Attributes:
        event: ``forked`` (with the descriptors of the link, the flights and the stack pipe) and
            ``ready``, which the worker says itself; ``exited``, which the template says; ``closed``
            and ``left``, which it answers to `CLOSE` and `Leave`.
        pid: of the worker; 0 where it could not be forked, and with ``closed`` and ``left``.
        status: of `os.waitstatus_to_exitcode`, for ``exited``: negative is a signal.
        end_seconds: for ``ready``: how long the worker's end may take at the most.
    """

    event: str
    pid: int
    status: int = 0
    end_seconds: float = 0.0

    def encode(self) -> bytes:
        """Write it for `decode`."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Report | None:
        """Read what `encode` wrote; None for anything else."""
        try:
            raw: dict[str, Any] = json.loads(data)
            return Report(
                raw["event"], raw["pid"], raw.get("status", 0), raw.get("end_seconds", 0.0)
            )
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class WorkerMessage:
    """What a worker says; each part may be missing.

    Attributes:
        figures: the answer to a ping.
        stacks: the answer to a request for stacks.
        has_enough: whether the worker has had all the requests that it was forked for.
        unfit: why the worker is to be replaced, which serves on until then.
    """

    figures: Figures | None = None
    stacks: str | None = None
    has_enough: bool = False
    unfit: str | None = None

    def encode(self) -> bytes:
        """Write it for `decode`."""
        figures = dataclasses.asdict(self.figures) if self.figures is not None else None
        stacks = _cut(self.stacks) if self.stacks is not None else None
        return json.dumps(
            {
                "figures": figures,
                "stacks": stacks,
                "has_enough": self.has_enough,
                "unfit": self.unfit,
            }
        ).encode()

    @staticmethod
    def decode(data: bytes) -> WorkerMessage:
        """Read what `encode` wrote; anything else says nothing."""
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
        )


def _cut(text: str) -> str:
    """Leave out the end of a text that does not fit into a message, and say how much that is."""
    if len(json.dumps(text)) <= _MAX_STACK_BYTES:
        return text
    # JSON needs between one and twelve bytes for a character: the sum of them decides.
    room = _MAX_STACK_BYTES - 100
    kept = (
        bisect.bisect_right(range(len(text)), room, key=lambda end: len(json.dumps(text[:end]))) - 1
    )
    return f"{text[:kept]}\n[{len(text) - kept} more characters do not fit]"
