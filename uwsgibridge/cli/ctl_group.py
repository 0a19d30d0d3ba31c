"""The group of ``uwsgibridge ctl``: which supervisor its commands ask, and how they show an answer."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from uwsgibridge.cli.control_choice import CONTROL_VARIABLE, choose_socket
from uwsgibridge.cli.units import seconds
from uwsgibridge.control.client import CommandRefusedError, ControlError, ask

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

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
    **dict.fromkeys(("quit", "shutdown", "terminate"), "stop"),
    **dict.fromkeys(("ps", "list", "show", "info", "stats"), "status"),
    "workers": "scale",
}

# Said of a command that this program has, and the supervisor has not.
_OLDER: Final = "; the supervisor is of an older version: SIGUSR2 upgrades it in place"

# How long a person may wait for the completion of a pid.
_COMPLETION_SECONDS: Final = 1.0


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


# How long a command may take: new workers load the application, and old ones may have long requests.
_DEFAULT_WAIT_SECONDS: Final = 120.0

wait_option: Final = click.option(
    "--timeout-seconds",
    type=seconds(least=0.001, most=1_000_000),
    default=_DEFAULT_WAIT_SECONDS,
    show_default=True,
    help="How many seconds to wait for the outcome.",
)


def _complete_pid(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Give the pids of the running workers, each with what it does; nothing where no supervisor answers."""
    from click.shell_completion import CompletionItem

    named = ctx.params.get("control_socket")
    if named is None and ctx.parent is not None:
        named = ctx.parent.params.get("control_socket")
    try:
        status = ask(choose_socket(named), "status", timeout_seconds=_COMPLETION_SECONDS)
    except (ControlError, click.ClickException):
        return []
    return [
        CompletionItem(str(it["pid"]), help=it["state"])
        for it in status["workers"]
        if str(it["pid"]).startswith(incomplete)
    ]


def worker_option(text: str) -> Callable[[Any], Any]:
    """Make the option that names a worker by its process id; 0 where it is not given."""
    return click.option(
        "--worker",
        type=click.IntRange(min=1),
        callback=lambda _ctx, _parameter, value: value or 0,
        shell_complete=_complete_pid,
        metavar="PID",
        help=text,
    )


pid_argument: Final = click.argument(
    "pid", type=click.IntRange(min=1), shell_complete=_complete_pid
)


@dataclass(frozen=True, slots=True)
class Asked:
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
@_socket_option(CONTROL_VARIABLE)
@_json_option
def command(control_socket: str | None, *, as_json: bool) -> None:
    del control_socket, as_json  # the subcommand takes them from the context


def subcommand(name: str) -> Callable[[Callable[..., None]], click.Command]:
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
                function(Asked(choose_socket(named), as_json), **values)
            except CommandRefusedError as error:
                if as_json:
                    click.echo(json.dumps(error.answer))
                hint = _OLDER if str(error).startswith("there is no command") else ""
                raise click.ClickException(f"{error}{hint}") from error
            except ControlError as error:
                raise click.ClickException(str(error)) from error

        return run

    return decorate
