"""``uwsgibridge completion``: prints what a shell has to read so that it completes commands, options and pids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from uwsgibridge.cli import PROGRAM, main

# Click looks for this variable at each start, and answers the shell in place of the command.
VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"


@click.command(short_help="Print what a shell needs to complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a script that has SHELL complete the commands and options of uwsgibridge, and the pids of workers.

    \b
    bash:  echo 'eval "$(uwsgibridge completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(uwsgibridge completion zsh)"' >> ~/.zshrc
    fish:  uwsgibridge completion fish > ~/.config/fish/completions/uwsgibridge.fish

    For all users, a package puts it into /usr/share/bash-completion/completions/uwsgibridge.
    """  # noqa: D301 - click marks paragraphs with this character
    made = get_completion_class(shell)
    assert made is not None, f"click has no completion for {shell}"
    click.echo(made(main, {}, PROGRAM, VARIABLE).source())
