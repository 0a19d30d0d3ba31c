"""A sidecar: a program beside the workers, which is kept running, restarted by a reload, and stopped with the rest."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from uwsgibridge.commands.finding import why_not_started
from uwsgibridge.commands.program import Program
from uwsgibridge.config.commands import Command
from uwsgibridge.supervisor.backoff import Backoff
from uwsgibridge.supervisor.crash_report import describe_end
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.system.oom import raise_oom_score
from uwsgibridge.system.process_figures import cpu_seconds, rss_bytes

# A sidecar that ends sooner than this after its start has had a short life. Many need some seconds to fail: they
# import an application, or try to reach a broker.
_SHORT_LIFE_SECONDS: Final = 10.0


class SidecarState(enum.Enum):
    """What a sidecar does.

    Attributes:
        WAITING: there is no process; one is to be started.
        RUNNING: its process runs.
        STOPPING: its process was asked to end.
        STOPPED: there is no process, and none is to be started.
    """

    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"

    def follow(self, following: SidecarState) -> SidecarState:
        """Check that a state may follow this one, and give that state.

        Raises:
            AssertionError: it may not.
        """
        assert following in _FOLLOWING[self], f"{following} can't follow {self}"
        return following


_FOLLOWING: Final[dict[SidecarState, frozenset[SidecarState]]] = {
    SidecarState.WAITING: frozenset({SidecarState.RUNNING, SidecarState.STOPPED}),
    SidecarState.RUNNING: frozenset({SidecarState.WAITING, SidecarState.STOPPING}),
    SidecarState.STOPPING: frozenset({SidecarState.WAITING, SidecarState.STOPPED}),
    SidecarState.STOPPED: frozenset(),
}


class Sidecar:
    """One sidecar of a supervisor.

    Args:
        name: tells it from the other sidecars.
        command: is run.
        fleet: says when the supervisor reloads or stops, and is told of the sidecar's ends.
        nursery: runs what watches the process.
        is_kept: whether another process is started where one has ended.
        is_needed: says whether there is to be a process, for the generation that serves now.

    Attributes:
        name, command: as given.
        state: what it does.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        fleet: Fleet,
        nursery: trio.Nursery,
        *,
        is_kept: bool = True,
        is_needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self.command = command
        self.state = SidecarState.WAITING
        self._fleet = fleet
        self._log = fleet.log
        self._nursery = nursery
        self._is_kept = is_kept
        self._is_needed = is_needed
        self._program: Program | None = None
        self._generation: object = None  # that was current when the program was started
        self._backoff = _new_backoff()
        self._since = self._started_at = trio.current_time()
        self._kill_at = 0.0  # of a sidecar that was asked to end
        self._restarts = 0
        self._has_ended_itself = False
        self._last_end: tuple[int | None, float] | None = None

    async def run(self) -> None:
        """Keep the program running until the supervisor stops; where this is cancelled, the program goes on."""
        if not self._is_kept:
            await self._stop()
        while self._is_kept and not self._fleet.is_stopping:
            # While another program takes the process over, nothing is started.
            await self._fleet.wait_for(lambda: self._fleet.phase is not Phase.UPGRADING)
            if self._program is None and self._is_needed():
                await self._start()
            elif self._program is None:
                await self._fleet.wait_for(lambda: self._fleet.is_ending() or self._is_needed())
            else:
                await self._fleet.wait_for(self._has_news)
                if self._program.has_ended and self.state is SidecarState.RUNNING:
                    await self._begin_again()
                else:
                    await self._stop()
        await self._stop()
        self._enter(SidecarState.STOPPED)

    def adopt(self, heritage: Mapping[str, Any]) -> None:
        """Take over what `bequeath` has described, after an exec."""
        now = trio.current_time()
        self._restarts = heritage["restarts"]
        self._has_ended_itself = heritage["has_ended_itself"]
        if heritage["last_end"] is not None:
            status, seconds_ago = heritage["last_end"]
            self._last_end = status, now - seconds_ago
        if heritage["program"] is None:
            return
        self._run_program(
            Program.adopt(heritage["program"], tell=self._tell, grace_seconds=self._grace_seconds)
        )
        self._started_at = self._since = now - heritage["age_seconds"]
        if heritage["stopping_seconds_left"] is not None:
            self._kill_at = now + heritage["stopping_seconds_left"]
            self._enter(SidecarState.STOPPING)

    def bequeath(self) -> dict[str, Any]:
        """Describe the sidecar for `adopt`, and forget its process; call it when `run` was cancelled.

        Returns:
            The description, as JSON values; `descriptors_of` in `sidecars.py` lists what has to be inherited.
        """
        now = trio.current_time()
        is_stopping = self.state is SidecarState.STOPPING
        last_end = None
        if self._last_end is not None:
            status, ended_at = self._last_end
            last_end = status, now - ended_at
        return {
            "name": self.name,
            "command": self.command.text,
            "restarts": self._restarts,
            "has_ended_itself": self._has_ended_itself,
            "last_end": last_end,
            "age_seconds": now - self._started_at,
            "stopping_seconds_left": self._kill_at - now if is_stopping else None,
            "program": self._program.bequeath() if self._program is not None else None,
        }

    def describe(self) -> dict[str, Any]:
        """Give its state and figures, for `status`."""
        now = trio.current_time()
        pid = self._program.pid if self._program is not None else None
        last_exit = None
        if self._last_end is not None:
            status, ended_at = self._last_end
            last_exit = {**describe_end(status), "seconds_ago": round(now - ended_at, 3)}
        return {
            "name": self.name,
            "command": self.command.text,
            "pid": pid,
            "state": self.state.value,
            "since_seconds_ago": round(now - self._since, 3),
            "restarts": self._restarts,
            "last_exit": last_exit,
            "rss_bytes": rss_bytes(pid) if pid is not None else None,
            "cpu_seconds": cpu_seconds(pid) if pid is not None else None,
        }

    @property
    def is_idle(self) -> bool:
        """Whether there is no process, and there need not be one."""
        return self._program is None and not self._is_needed()

    @property
    def has_stopped(self) -> bool:
        """Whether there is no process, and none is to be started."""
        return self.state is SidecarState.STOPPED

    @property
    def _grace_seconds(self) -> float:
        return self._fleet.settings.graceful_timeout_seconds

    def _has_news(self) -> bool:
        assert self._program is not None
        return (
            self._program.has_ended
            or self._fleet.is_stopping
            or self.state is SidecarState.STOPPING
            or self._generation is not self._fleet.current
        )

    def _tell(self, stream: str, line: str) -> None:
        self._log.info("sidecar wrote", sidecar=self.name, stream=stream, text=line)

    async def _start(self) -> None:
        if self._generation is not self._fleet.current:
            # New code may end what has kept the sidecar from running.
            self._backoff = _new_backoff()
        self._generation = self._fleet.current
        try:
            program = Program.start(
                self.command, tell=self._tell, grace_seconds=self._grace_seconds
            )
        except OSError as error:
            self._log.error(
                "sidecar can't be started", sidecar=self.name, reason=why_not_started(error)
            )
            await self._back_off("it can't be started")
            return
        raise_oom_score(self._fleet.settings.worker_oom_score, program.pid)
        self._restarts += self._has_ended_itself
        self._has_ended_itself = False
        self._run_program(program)
        self._log.info("sidecar started", sidecar=self.name, pid=program.pid)

    def _run_program(self, program: Program) -> None:
        self._program = program
        self._generation = self._fleet.current
        self._started_at = trio.current_time()
        self._enter(SidecarState.RUNNING)
        self._nursery.start_soon(self._watch, program)

    async def _watch(self, program: Program) -> None:
        await program.watch()
        self._fleet.wake_waiters()

    async def _begin_again(self) -> None:
        """Take note of an end that nobody has asked for, and wait where such ends are frequent."""
        program = self._forget_program()
        now = trio.current_time()
        lived_seconds = now - self._started_at
        self._has_ended_itself = True
        facts = {
            "sidecar": self.name,
            "pid": program.pid,
            "seconds": round(lived_seconds, 3),
            **describe_end(program.status),
        }
        if program.status == 0:
            self._log.info("sidecar ended", **facts)
        else:
            self._log.error("sidecar ended", **facts, output=str(program.last_lines))
        self._backoff.record_crash(lived_seconds, (), now)
        if self._backoff.reason:
            await self._back_off(f"it ended within {_SHORT_LIFE_SECONDS:g} s of its start")

    async def _back_off(self, reason: str) -> None:
        seconds = self._backoff.start_pause()
        self._log.warning(
            "sidecar starts again later", sidecar=self.name, in_seconds=seconds, reason=reason
        )
        with trio.move_on_after(seconds):
            await self._fleet.wait_for(
                lambda: self._fleet.is_stopping or self._generation is not self._fleet.current
            )

    async def _stop(self) -> None:
        """Ask the process to end, and kill it and its group where it does not in its time."""
        program = self._program
        if program is None:
            return
        if self.state is SidecarState.RUNNING:
            program.terminate()
            self._enter(SidecarState.STOPPING)
            self._kill_at = trio.current_time() + self._grace_seconds
        with trio.CancelScope(deadline=self._kill_at):
            await self._fleet.wait_for(
                lambda: program.has_ended or self._fleet.phase is Phase.HURRYING
            )
        if not program.has_ended:
            if self._fleet.phase is not Phase.HURRYING:
                self._log.error(
                    "killing sidecar: it does not end",
                    sidecar=self.name,
                    pid=program.pid,
                    option="--graceful-timeout-seconds",
                )
            program.kill()
            with trio.move_on_after(END_MARGIN_SECONDS):
                await self._fleet.wait_for(lambda: program.has_ended)
        # A process that the system can't kill now must not have a second one beside it.
        await self._fleet.wait_for(lambda: program.has_ended or self._fleet.is_stopping)
        self._forget_program()
        self._log.info("sidecar stopped", sidecar=self.name, pid=program.pid)

    def _forget_program(self) -> Program:
        program, self._program = self._program, None
        assert program is not None
        self._last_end = program.status, trio.current_time()
        self._enter(SidecarState.WAITING)
        return program

    def _enter(self, state: SidecarState) -> None:
        self.state = self.state.follow(state)
        self._since = trio.current_time()
        self._fleet.wake_waiters()


def _new_backoff() -> Backoff:
    return Backoff(short_life_seconds=_SHORT_LIFE_SECONDS, short_lives_forgiven=0)
