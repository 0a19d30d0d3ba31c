"""Runs the actions of ``--on-start`` and ``--on-ready``: commands, and files to touch."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import trio

from uwsgibridge.commands.finding import why_not_started
from uwsgibridge.commands.program import Program
from uwsgibridge.config.commands import Action, Command, Touch, parse_action
from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import StartCommandFailed, single_error
from uwsgibridge.system.reasons import why_not_made
from uwsgibridge.system.safe_path import UnsafePathError, open_place
from uwsgibridge.telemetry.logs import Logger

# How long a command has to end after SIGTERM: over its time, or at a stop.
_END_SECONDS: Final = 5.0

_TOUCH_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
_TOUCH_MODE: Final = 0o666

# Returns when running commands are to be broken off.
BrokenOff = Callable[[], Awaitable[None]]


class _Failed(Exception):
    """An action has failed; the message ends a sentence.

    Args:
        reason: the message.
        output: the last lines that the command has written.
    """

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason)
        self.output = output


async def run_at_start(settings: Settings, logger: Logger, broken_off: BrokenOff) -> None:
    """Run the actions of ``--on-start``, one after the other.

    Args:
        settings: have the actions.
        logger: where output and events go.
        broken_off: returns when the rest is to be left out, and a running command ended.

    Raises:
        StartCommandFailed: an action has failed; the later ones were not begun.
    """
    with single_error():
        await _run_at_start(settings, logger, broken_off)


async def run_when_ready(settings: Settings, logger: Logger, broken_off: BrokenOff) -> None:
    """Run the actions of ``--on-ready``, one after the other; a failure is logged, and the next one is run.

    Args:
        settings: have the actions.
        logger: where output and events go.
        broken_off: as for `run_at_start`.
    """
    async with trio.open_nursery() as nursery:
        is_over = trio.Event()
        nursery.start_soon(_wait_and_set, broken_off, is_over)
        for text in settings.on_ready:
            if is_over.is_set():
                break
            action = parse_action("--on-ready", text)
            try:
                await _run(action, settings.on_ready_seconds, "on_ready_seconds", logger, is_over)
            except _Failed as error:
                logger.error(  # noqa: TRY400 - the reason says it
                    "command failed", **_describe(action), reason=str(error), output=error.output
                )
        nursery.cancel_scope.cancel()


def run_at_start_alone(settings: Settings, logger: Logger) -> bool:
    """Do what `run_at_start` does, in a process that has no event loop yet; a signal breaks it off.

    Args:
        settings: as for `run_at_start`.
        logger: as for `run_at_start`.

    Returns:
        Whether the start may go on: no SIGTERM, SIGINT or SIGHUP has come.

    Raises:
        StartCommandFailed: as `run_at_start`.
    """
    stopped_by = ""

    async def run() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:

            async def wait_for_signal() -> None:
                nonlocal stopped_by
                stopped_by = signal.Signals(await anext(signals)).name
                logger.info("stopping: running requests may end", signal=stopped_by)

            await run_at_start(settings, logger, wait_for_signal)

    with single_error():
        trio.run(run)
    return not stopped_by


async def _run_at_start(settings: Settings, logger: Logger, broken_off: BrokenOff) -> None:
    async with trio.open_nursery() as nursery:
        is_over = trio.Event()
        nursery.start_soon(_wait_and_set, broken_off, is_over)
        for text in settings.on_start:
            if is_over.is_set():
                break
            action = parse_action("--on-start", text)
            try:
                await _run(action, settings.on_start_seconds, "on_start_seconds", logger, is_over)
            except _Failed as error:
                words = f"--on-start {text!r} failed: {error}"
                if error.output:
                    words += f"; the last that it wrote:\n{error.output}"
                raise StartCommandFailed(words) from None
        nursery.cancel_scope.cancel()


async def _wait_and_set(broken_off: BrokenOff, is_over: trio.Event) -> None:
    await broken_off()
    is_over.set()


async def _run(
    action: Action, seconds: float, limit: str, logger: Logger, is_over: trio.Event
) -> None:
    if isinstance(action, Touch):
        _touch(action.path)
        logger.info("file touched", option=action.option, path=action.path)
    else:
        await _run_command(action, seconds, option_name(limit), logger, is_over)


async def _run_command(
    command: Command, seconds: float, limit: str, logger: Logger, is_over: trio.Event
) -> None:
    def tell(stream: str, line: str) -> None:
        logger.info("command wrote", **_describe(command), stream=stream, text=line)

    logger.info("command begins", **_describe(command))
    begun_at = trio.current_time()
    try:
        program = Program.start(command, tell=tell, grace_seconds=_END_SECONDS)
    except OSError as error:
        raise _Failed(f"it can't be started: {why_not_started(error)}") from None
    reason = ""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.watch)
            with trio.move_on_after(seconds) as deadline:
                await _first_of(program.ended, is_over)
            if not program.has_ended:
                reason = "it was broken off by a stop or an upgrade"
                if deadline.cancelled_caught:
                    reason = f"it took longer than {seconds:g} s ({limit})"
                program.terminate()
                with trio.move_on_after(_END_SECONDS):
                    await program.ended.wait()
                program.kill()
                # The system can't kill each process at once, such as one that waits for a disk.
                with trio.move_on_after(_END_SECONDS):
                    await program.ended.wait()
            nursery.cancel_scope.cancel()
    finally:
        program.kill()
    reason = reason or _describe_failure(program.status)
    if reason and not (is_over.is_set() and command.option == "--on-start"):
        raise _Failed(reason, str(program.last_lines))
    if not reason:
        took = round(trio.current_time() - begun_at, 3)
        logger.info("command has ended", **_describe(command), seconds=took)


async def _first_of(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


def _describe(action: Action) -> dict[str, Any]:
    """Give the fields of a log event that name an action; arguments may have secrets."""
    if isinstance(action, Command):
        return {"option": action.option, "command": action.name}
    return {"option": action.option, "path": action.path}


def _describe_failure(status: int | None) -> str:
    """Say how a program has failed; an empty text where it has not, or where that is not known."""
    if not status:
        return ""
    if status > 0:
        return f"it ended with exit status {status}"
    try:
        return f"it was ended by {signal.Signals(-status).name}"
    except ValueError:  # most real-time signals have no name in Python
        return f"it was ended by signal {-status}"


def _touch(path: str) -> None:
    """Set a file's time to now, and make the file where it is missing.

    Raises:
        _Failed: the file can't be made.
    """
    # For root, `open_place` has followed the links that may be followed.
    follows = os.geteuid() != 0
    flags = _TOUCH_FLAGS if follows else _TOUCH_FLAGS | os.O_NOFOLLOW
    try:
        with open_place(path) as place:
            try:
                os.utime(place.name, dir_fd=place.directory, follow_symlinks=follows)
            except FileNotFoundError:
                os.close(os.open(place.name, flags, _TOUCH_MODE, dir_fd=place.directory))
    except UnsafePathError as error:
        raise _Failed(str(error)) from None
    except OSError as error:
        whole = Path(path).absolute()
        reason = why_not_made(error, whole.parent, "make or change it", whole.name)
        raise _Failed(reason) from None
