"""Shell completion, in the shells themselves as far as they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.cli.test_ctl import directory, path, supervisor
from uwsgibridge.cli import main

__all__ = ["directory", "path", "supervisor"]  # fixtures

PATIENCE_SECONDS = 60


def run_in(shell: str, script: str, directory: Path, *options: str) -> list[str]:
    """Run a script that has `uwsgibridge` on its PATH; give the words that it prints."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    command = directory / "uwsgibridge"
    command.write_text(f"#!{sys.executable}\nfrom uwsgibridge.__main__ import main\nmain()\n")
    command.chmod(0o755)
    done = subprocess.run(
        [program, *options, "-c", script],
        env={**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "HOME": str(directory)},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def in_bash(directory: Path, *lines: str) -> list[list[str]]:
    """Complete the last word of each line; all in one bash."""
    script = 'eval "$(uwsgibridge completion bash)"\n'
    for line in lines:
        script += f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()\n"
        script += '_uwsgibridge_completion uwsgibridge\necho "${COMPREPLY[@]}"\n'
    script += "complete -p uwsgibridge >&2\n"
    return [it.split() for it in run_in("bash", script, directory, "--norc")]


def test_bash_completes_commands_options_and_pids(path, directory):
    socket = f"uwsgibridge ctl --control-socket {path}"
    assert in_bash(
        directory,
        "uwsgibridge c",
        "uwsgibridge serve --slow",
        f"{socket} kill ''",
        f"{socket} profile --worker 13",
    ) == [
        ["ctl", "convert", "completion"],
        ["--slow-request-seconds"],
        ["12", "13"],
        ["13"],
    ]


def test_without_a_supervisor_no_pid_is_completed(directory):
    [found] = in_bash(directory, f"uwsgibridge ctl --control-socket {directory / 'none'} kill ''")
    assert found == []


def test_fish_completes_with_words_about_each(path, directory):
    script = (
        "uwsgibridge completion fish | source\n"
        f"complete -C 'uwsgibridge ctl --control-socket {path} kill '\n"
        "complete -C 'uwsgibridge pi'\n"
    )
    found = run_in("fish", script, directory, "--no-config")
    assert found[:2] == ["12\tready", "13\tstarting"]
    assert found[2].startswith("ping\t")


def test_zsh_knows_the_function(directory):
    script = (
        "autoload -Uz compinit && compinit -u -d $HOME/dump\n"
        'eval "$(uwsgibridge completion zsh)"\n'
        "print $_comps[uwsgibridge]\n"
    )
    assert run_in("zsh", script, directory, "-f") == ["_uwsgibridge_completion"]


def test_commands_are_completed_without_importing_them():
    script = (
        "import sys\n"
        "from uwsgibridge.cli import main\n"
        "import click\n"
        "print(len(main.shell_complete(click.Context(main), '')))\n"
        "sys.exit(any(it.startswith('uwsgibridge.cli.') for it in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > len(main.list_commands(click.Context(main))) - 1
