"""An upgrade in place: what a supervisor hands on to the program that takes its process over by exec.

The process stays the same. So do its pid, which a service manager or a container knows, its listening sockets, and
its children, which are the template and the workers. Only the code is new.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, NoReturn

from uwsgibridge.config.address import parse_address
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket, adopt_socket
from uwsgibridge.errors import SettingsError
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.supervisor.preserved import PreservedProgram
from uwsgibridge.supervisor.sidecars import descriptors_of
from uwsgibridge.supervisor.watched_files import require_watchable
from uwsgibridge.system import held_secret, pid_file, starting_place
from uwsgibridge.system.memory_file import make_memory_file
from uwsgibridge.system.privileges import resolve_user
from uwsgibridge.system.signals import SERVER_SIGNALS
from uwsgibridge.telemetry.line_buffer import finish_lines

_DESCRIPTOR_VARIABLE: Final = "UWSGIBRIDGE_HERITAGE_FD"

# The variable that tells a trial run of the new program to check its options and exit. Its value is the form of the
# heritage that would be handed on.
REHEARSAL_VARIABLE: Final = "UWSGIBRIDGE_REHEARSAL"
FORM: Final = "1"

_MAX_BYTES: Final = 16_777_216


@dataclass(frozen=True, slots=True)
class Heritage:
    """Everything that a supervisor hands on.

    Attributes:
        bind: the addresses of the listening sockets, as the options have them.
        sockets: the listening sockets of each address.
        lifeline: both ends of the workers' lifeline.
        generations: as `Generation.bequeath` describes them; the last one is current.
        tally: the supervisor's counts.
        started_at: when the first supervisor in this process started, by `time.monotonic`.
        descriptors: what else the new program inherits.
        sidecars: as `Sidecars.bequeath` describes them.
        published: the listening sockets at which figures are to be had, as `PublishedSockets.by_place` has them.
    """

    bind: Sequence[str]
    sockets: Mapping[str, Sequence[ListeningSocket]]
    lifeline: tuple[int, int]
    generations: Sequence[dict[str, Any]]
    tally: Mapping[str, Any]
    started_at: float
    descriptors: Sequence[int] = field(default=(), compare=False)
    sidecars: Sequence[dict[str, Any]] = ()
    published: Mapping[str, Sequence[ListeningSocket]] = field(default_factory=dict)

    def exec(self, program: PreservedProgram | None = None) -> NoReturn:
        """Become the program that is installed now, with the arguments, directory and environment that this one began with.

        Args:
            program: the old program, put back if the new one dies in its start; None: the process ends
                then.

        Raises:
            OSError: it can't be started. Signals wait for who takes them next.
        """
        everything = {
            "bind": list(self.bind),
            "sockets": _describe_sockets(self.sockets),
            "published": _describe_sockets(self.published),
            "lifeline": self.lifeline,
            "generations": list(self.generations),
            "tally": dict(self.tally),
            "started_at": self.started_at,
            "sidecars": list(self.sidecars),
        }
        memory = make_memory_file("uwsgibridge-heritage")
        os.write(memory, json.dumps(everything).encode())
        listening = [*_numbers_of(self.sockets), *_numbers_of(self.published)]
        inherited = [memory, *self.lifeline, *listening, *self.descriptors]
        inherited += held_secret.descriptors()
        command, told = [sys.executable, *sys.orig_argv[1:]], dict[str, str]()
        if program is not None:
            command, told = program.start()
            inherited += program.descriptors
        _set_inheritable(inherited, True)
        sys.stdout.flush()
        sys.stderr.flush()
        finish_lines()
        # The new program begins with the defaults, which end the process, until it listens to them.
        signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
        try:
            with starting_place.in_original_directory():
                os.execve(  # noqa: S606 - our own command line
                    sys.executable,
                    command,
                    {
                        **starting_place.original_environment(),
                        _DESCRIPTOR_VARIABLE: str(memory),
                        **pid_file.hand_on(),
                        **held_secret.variables(),
                        **told,
                    },
                )
        except OSError:
            pid_file.keep()
            _set_inheritable(inherited, False)
            os.close(memory)
            raise

    @staticmethod
    def from_environment() -> Heritage | None:
        """Take over what `exec` has handed on; None where this is an ordinary start."""
        text = os.environ.pop(_DESCRIPTOR_VARIABLE, "")
        if not text.isdecimal():
            return None
        memory = int(text)
        try:
            raw = json.loads(os.pread(memory, _MAX_BYTES, 0))
        finally:
            os.close(memory)
        sockets = _adopt_sockets(raw["sockets"])
        published = _adopt_sockets(raw.get("published", {}))
        reader, writer = raw["lifeline"]
        heritage = Heritage(
            raw["bind"],
            sockets,
            (reader, writer),
            raw["generations"],
            raw["tally"],
            raw["started_at"],
            # Programs that know no sidecars have none, nor sockets for figures.
            sidecars=raw.get("sidecars", ()),
            published=published,
        )
        kept = [it for one in raw["generations"] for it in _descriptors_of(one)]
        kept += descriptors_of(heritage.sidecars)
        listening = [*_numbers_of(sockets), *_numbers_of(published)]
        _set_inheritable([reader, writer, *listening, *kept], False)
        return heritage


def _describe_sockets(sockets: Mapping[str, Sequence[ListeningSocket]]) -> dict[str, list[Any]]:
    return {
        place: [[one.socket.fileno(), str(one.address), one.owned_file] for one in all_]
        for place, all_ in sockets.items()
    }


def _adopt_sockets(described: Mapping[str, Any]) -> dict[str, list[ListeningSocket]]:
    return {
        place: [
            adopt_socket(descriptor, parse_address(address), tuple(owned) if owned else None)
            for descriptor, address, owned in all_
        ]
        for place, all_ in described.items()
    }


def _numbers_of(sockets: Mapping[str, Sequence[ListeningSocket]]) -> list[int]:
    return [one.socket.fileno() for all_ in sockets.values() for one in all_]


def is_upgrade() -> bool:
    """Tell whether a supervisor has handed this process on by `Heritage.exec`."""
    return _DESCRIPTOR_VARIABLE in os.environ


def check_takeover(settings: Settings) -> None:
    """Check, in a rehearsal, that this program can take over.

    Raises:
        SettingsError: it can't take over.
    """
    if not settings.workers:
        raise SettingsError("--workers 0 takes nothing over from a supervisor: restart instead")
    if os.environ.get(REHEARSAL_VARIABLE) != FORM:
        raise SettingsError("this version can't take over from the one that runs: restart instead")
    resolve_user(settings.user, settings.group)
    require_watchable(settings)
    if settings.prometheus_multiproc_dir:
        from uwsgibridge.multiproc.directory import make_directory  # imported here: few have one

        make_directory(settings.prometheus_multiproc_dir)  # where the option is new
    if settings.on_start or settings.on_ready or settings.sidecar:
        from uwsgibridge.commands.finding import require_programs  # imported here: few have any

        require_programs(settings)
    if settings.publishes_figures:
        # Imported so that a missing module ends the rehearsal, and not the start.
        import uwsgibridge.status.publishing
        import uwsgibridge.supervisor.live_view  # noqa: F401
    if settings.metrics_file:
        from uwsgibridge.status.metrics_file import require_writable  # few have any

        require_writable(settings)


def defer_signals() -> None:
    """Keep signals pending while no supervisor handles them, which is between two supervisors of this process."""

    def hold(number: int, _frame: object) -> None:
        # A blocked signal that is raised again stays pending in this thread, also across an exec.
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        signal.raise_signal(number)

    for number in SERVER_SIGNALS:
        signal.signal(number, hold)


def _descriptors_of(generation: dict[str, Any]) -> Iterable[int]:
    yield generation["control"]
    for worker in generation["workers"]:
        yield from worker["descriptors"]


def _set_inheritable(descriptors: Iterable[int], inheritable: bool) -> None:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, inheritable)
