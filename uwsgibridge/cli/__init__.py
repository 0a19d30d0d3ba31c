"""The command line: one file a command, loaded only when it is called."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

import click

from uwsgibridge._version import __version__
from uwsgibridge.system.collector import rare_collections

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PROGRAM: Final = "uwsgibridge"

# Help lists the commands in this order, in which a person first needs them.
_COMMANDS: Final = {
    "serve": "Serve an application to Nginx's uwsgi_pass.",
    "dev": "Serve it behind a private Nginx, and restart on change.",
    "demo": "The bundled example applications: the thing to try first.",
    "ping": "Ask whether a bridge answers; for health checks.",
    "request": "Send one request without an Nginx: curl for uwsgi.",
    "ctl": "Look at a running supervisor and steer it.",
    "explain": "Say why requests failed, from Nginx's log and ours.",
    "nginx": "Print an Nginx configuration that fits.",
    "frontend": "Print a configuration of Apache or lighttpd that fits.",
    "run-uwsgi": "Run a configuration of uWSGI as it is.",
    "run-gunicorn": "Run a configuration of gunicorn as it is.",
    "convert": "Write a configuration of uWSGI or gunicorn as TOML.",
    "completion": "Print what a shell needs to complete commands.",
}


class _LazyGroup(click.Group):
    """A group that imports a command only when it is called: a health check by `ping` imports little."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        with rare_collections():
            command = importlib.import_module(
                f"uwsgibridge.cli.{cmd_name.replace('-', '_')}"
            ).command
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from uwsgibridge.cli.slips import explain

            raise explain(error) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in _COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        from uwsgibridge.cli.slips import closest, command_instead

        meant = command_instead(name.lower()) or closest(name, _COMMANDS)
        if meant is not None:
            raise click.UsageError(f"there is no command {name!r}: did you mean {meant}?")
        hint = f"uwsgibridge serve {name} serves an application" if ":" in name else "see --help"
        raise click.UsageError(f"there is no command {name!r}: {hint}")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # Click would import each command for its help: a person waits for this at each press of the key.
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for name, text in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name=PROGRAM)
def main() -> None:
    """The Python application server for everyone with uwsgi_pass in an Nginx config.

    \b
    Try it:       uwsgibridge demo
    Your app:     uwsgibridge dev mymodule:app
    Production:   uwsgibridge serve mymodule:app --bind unix:/run/app.sock
    """  # noqa: D301 - click marks paragraphs with this character
