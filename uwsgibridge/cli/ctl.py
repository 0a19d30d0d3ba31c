"""``uwsgibridge ctl``: look at a running supervisor and steer it, over its control socket."""

from __future__ import annotations

import functools
import itertools
import json
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from uwsgibridge.cli.status_table import format_rates, format_status
from uwsgibridge.cli.units import seconds
from uwsgibridge.control.client import (
    CommandRefusedError,
    ControlConnection,
    ControlError,
    ControlTimeoutError,
    ask,
)
from uwsgibridge.control.path import directories_passed_over, find_control_sockets

_HELP = """Look at a running supervisor and steer it, over its control socket.

Without --control-socket, the control_socket of this directory's uwsgibridge.toml is
asked, and without that the only supervisor that runs as this user.

\b
Examples:
  uwsgibridge ctl status
  uwsgibridge ctl reload && echo the new code is in service
  uwsgibridge ctl --control-socket /run/app/control.sock scale 8
  uwsgibridge ctl status --json

\b
Exit status:
  0  done
  1  not done; one sentence on standard error says why
  2  an argument or option is not valid
"""

# Subcommands of systemctl, supervisorctl and others, with the ones that do the same here.
_ELSEWHERE: Final = {
    "restart": "reload",
    **dict.fromkeys(("quit", "kill", "shutdown", "terminate"), "stop"),
    **dict.fromkeys(("ps", "list", "show", "info", "stats"), "status"),
    "workers": "scale",
}

_CONFIG_FILE: Final = Path("uwsgibridge.toml")

# The value by which `serve` makes no control socket.
_SWITCHED_OFF: Final = "none"

# How long a command may take: new workers load the application, and old ones may have long requests.
_DEFAULT_WAIT_SECONDS: Final = 120.0


def _socket_option(envvar: str | None) -> Callable[[Any], Any]:
    return click.option(
        "--control-socket",
        metavar="PATH",
        envvar=envvar,
        help="The supervisor's control socket, as given to serve.",
    )


_json_option: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print the answer as it came: one line of JSON."
)
_wait_option: Final = click.option(
    "--timeout-seconds",
    type=seconds(least=0.001, most=1_000_000),
    default=_DEFAULT_WAIT_SECONDS,
    show_default=True,
    help="How many seconds to wait for the outcome.",
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which supervisor to ask, and how to show its answer."""

    path: Path
    as_json: bool

    def show(self, answer: dict[str, Any], text: str) -> None:
        click.echo(json.dumps(answer) if self.as_json else text)


class _Commands(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        meant = _ELSEWHERE.get(args[0])
        if meant is not None:
            raise click.UsageError(f"there is no command {args[0]!r}: did you mean {meant}?", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, help=_HELP, short_help="Look at a running supervisor and steer it.")
@_socket_option("UWSGIBRIDGE_CONTROL_SOCKET")
@_json_option
def command(control_socket: str | None, *, as_json: bool) -> None:
    del control_socket, as_json  # the subcommand takes them from the context


def _subcommand(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Register a subcommand that takes the group's options after its name, too."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @command.command(name)
        @_socket_option(None)  # the group's option goes before the variable of the environment
        @_json_option
        @click.pass_context
        @functools.wraps(function)
        def run(
            ctx: click.Context, /, control_socket: str | None, *, as_json: bool, **values: Any
        ) -> None:
            assert ctx.parent is not None
            named = control_socket or ctx.parent.params["control_socket"]
            as_json = as_json or ctx.parent.params["as_json"]
            try:
                function(_Asked(_choose_socket(named), as_json), **values)
            except CommandRefusedError as error:
                if as_json:
                    click.echo(json.dumps(error.answer))
                raise click.ClickException(str(error)) from error
            except ControlError as error:
                raise click.ClickException(str(error)) from error

        return run

    return decorate


@_subcommand("status")
def _status(asked: _Asked) -> None:
    """Show the supervisor and its workers."""
    answer = ask(asked.path, "status")
    asked.show(answer, format_status(answer))


@_subcommand("reload")
@_wait_option
def _reload(asked: _Asked, timeout_seconds: float) -> None:
    """Load the code anew, and wait until it is in service.

    Where the new code can't be loaded the old one stays in service, and the exit status is 1.
    """
    try:
        answer = ask(asked.path, "reload", timeout_seconds=timeout_seconds)
    except ControlTimeoutError as error:
        raise click.ClickException(
            f"{error}: where the reload still goes on, 'ctl status' shows it; "
            "--timeout-seconds waits longer."
        ) from error
    asked.show(answer, "Reloaded: the new code is in service.")


@_subcommand("scale")
@click.argument("workers", type=click.IntRange(min=1))
def _scale(asked: _Asked, workers: int) -> None:
    """Change the number of workers to WORKERS."""
    asked.show(ask(asked.path, "scale", workers=workers), f"Workers wanted: {workers}.")


@_subcommand("stop")
@_wait_option
@click.option("--no-wait", is_flag=True, help="Return as soon as the stop has begun.")
def _stop(asked: _Asked, timeout_seconds: float, *, no_wait: bool) -> None:
    """Let running requests end, then stop, and wait until that is done."""
    deadline = time.monotonic() + timeout_seconds
    pid = ask(asked.path, "status").get("pid")
    answer = ask(asked.path, "stop")
    if no_wait:
        asked.show(answer, f"The supervisor (pid {pid}) stops.")
        return
    try:
        _wait_until_gone(asked.path, deadline)
    except ControlTimeoutError as error:
        raise click.ClickException(
            f"The supervisor (pid {pid}) still runs after {timeout_seconds:g} s: running requests "
            "have its --graceful-timeout-seconds to end; --timeout-seconds waits longer."
        ) from error
    asked.show(answer, f"The supervisor (pid {pid}) has stopped.")


@_subcommand("stacks")
def _stacks(asked: _Asked) -> None:
    """Show what all processes are doing: their stacks."""
    answer = ask(asked.path, "stacks")
    texts = [
        f"== {process['role']}, pid {process['pid']} ==\n{process['stack'].rstrip()}\n"
        for process in answer["processes"]
    ]
    asked.show(answer, "\n".join(texts).rstrip("\n"))


@_subcommand("top")
@click.option("--count", type=click.IntRange(min=1), help="End after so many rounds.")
@click.option(
    "--interval-seconds",
    type=seconds(least=0.1, most=3600),
    default=1.0,
    show_default=True,
    help="Seconds from one round to the next.",
)
def _top(asked: _Asked, count: int | None, interval_seconds: float) -> None:
    """Show the workers each second, with their rates, until Ctrl-C."""
    earlier = None
    begun_at = time.monotonic()
    try:
        for number in itertools.count(1):
            answer = ask(asked.path, "status")
            click.clear()  # click clears terminals only
            asked.show(answer, format_rates(answer, earlier) + "\n")
            if number == count:
                return
            earlier = answer
            time.sleep(max(0.0, begun_at + number * interval_seconds - time.monotonic()))
    except KeyboardInterrupt:
        return


def _wait_until_gone(path: Path, deadline: float) -> None:
    """Wait for the supervisor's end.

    Raises:
        ControlTimeoutError: it has not ended at the deadline.
    """
    while True:
        try:
            with ControlConnection(path) as connection:
                if connection.ask("status").get("state") != "stopping":
                    return  # another supervisor has the socket already
                connection.wait_until_closed(deadline - time.monotonic())
        except (ControlTimeoutError, CommandRefusedError):
            raise  # the supervisor is still there
        except ControlError:
            return


def _choose_socket(named: str | None) -> Path:
    named = named or _configured_socket()
    if named == _SWITCHED_OFF:
        raise click.UsageError(
            f"The control socket is switched off: it is set to {_SWITCHED_OFF!r} "
            "(--control-socket, UWSGIBRIDGE_CONTROL_SOCKET or control_socket)."
        )
    if named is not None:
        return Path(named)
    found = find_control_sockets()
    if not found:
        passed_over = "".join(f"\nNot looked into: {it}." for it in directories_passed_over())
        raise click.ClickException(
            "No supervisor with a control socket runs as this user: name the socket with "
            f"--control-socket PATH.{passed_over}"
        )
    if len(found) > 1:
        lines = "".join(f"\n  {path}  {_describe(path)}".rstrip() for path in found)
        raise click.ClickException(
            f"Several supervisors run: choose one with --control-socket{lines}"
        )
    return found[0]


def _describe(path: Path) -> str:
    try:
        status = ask(path, "status")
    except ControlError as error:
        return f"({error})"
    return f"(pid {status.get('pid')}, {status.get('name')})"


def _configured_socket() -> str | None:
    try:
        document = tomllib.loads(_CONFIG_FILE.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise click.UsageError(f"{_CONFIG_FILE}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{_CONFIG_FILE}: {error}.") from error
    # A key may be written as its option is.
    path = document.get("control_socket", document.get("control-socket"))
    if path is None or isinstance(path, str):
        return path
    raise click.UsageError(
        f"{_CONFIG_FILE}: --control-socket takes a text in quotes, not {path!r}."
    )
