"""docs/man is what the commands give, and docs/completion has a shell complete them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from uwsgibridge.cli import main
from uwsgibridge.cli.manual import render_completions, render_pages, write

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "man").iterdir())
PATIENCE_SECONDS = 60


def files_in(directory: Path) -> dict[str, str]:
    return {it.name: it.read_text("utf-8") for it in directory.iterdir()}


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(
        [program, *command[1:]],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def test_the_pages_are_what_the_commands_give() -> None:
    assert files_in(DOCS / "man") == render_pages(), (
        "write them anew: python -m uwsgibridge.cli.manual docs"
    )


def test_pages_of_commands_that_are_gone_are_removed(tmp_path: Path) -> None:
    (tmp_path / "man").mkdir()
    (tmp_path / "man" / "uwsgibridge-gone.1").touch()
    write(tmp_path)
    assert files_in(tmp_path / "man") == render_pages()
    assert files_in(tmp_path / "completion") == render_completions()


def test_each_command_has_a_page_with_its_options() -> None:
    pages = render_pages()
    ctx = click.Context(main)
    for name in main.list_commands(ctx):
        command = main.get_command(ctx, name)
        assert command is not None
        page = pages[f"uwsgibridge-{name}.1"]
        assert f".BR uwsgibridge-{name} (1)".replace("-", "\\-") in pages["uwsgibridge.1"]
        below = command.commands.values() if isinstance(command, click.Group) else ()
        for parameter in (it for each in (command, *below) for it in each.params):
            if isinstance(parameter, click.Option):
                longest = max(parameter.opts, key=len).replace("-", "\\-")
                assert f"\\fB{longest}\\fP" in page


def test_what_is_read_is_what_is_written() -> None:
    done = run("man", "-l", str(DOCS / "man" / "uwsgibridge-serve.1"), MANWIDTH="120")
    assert done.returncode == 0
    shown = re.sub(r"\s+", " ", re.sub(".\b", "", done.stdout))
    assert "uwsgibridge serve mysite.wsgi --mount /api=api:app" in shown
    assert "\"module:create_app('prod', debug=False)\"" in shown
    assert "-b, --bind ADDRESS Where Nginx connects: unix:/run/app.sock" in shown


@pytest.mark.parametrize("page", PAGES, ids=lambda it: it.name)
def test_mandoc_has_nothing_against_a_page(page: Path) -> None:
    done = run("mandoc", "-T", "lint", "-W", "style", str(page))
    # A date would have the page differ from build to build.
    assert [it for it in done.stdout.splitlines() if "missing date" not in it] == []


def test_groff_has_nothing_against_the_pages() -> None:
    done = run("groff", "-man", "-Tutf8", "-ww", "-z", *map(str, PAGES))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_file_of_bash_completes(tmp_path: Path) -> None:
    program = tmp_path / "uwsgibridge"
    program.write_text(f"#!{sys.executable}\nfrom uwsgibridge.__main__ import main\nmain()\n")
    program.chmod(0o755)
    file = DOCS / "completion" / "uwsgibridge"
    script = (
        f". {file}\n"
        "COMP_WORDS=(uwsgibridge run-u); COMP_CWORD=1\n"
        "_uwsgibridge_completion uwsgibridge\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    done = run("bash", "--norc", "-c", script, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.stdout, done.returncode) == ("run-uwsgi\n", 0), done.stderr


@pytest.mark.parametrize(
    ("shell", "name", "start"),
    [
        ("zsh", "_uwsgibridge", "#compdef uwsgibridge\n"),
        ("fish", "uwsgibridge.fish", "function _uwsgibridge_completion"),
    ],
)
def test_the_files_of_other_shells_have_what_these_look_for(
    shell: str, name: str, start: str
) -> None:
    file = DOCS / "completion" / name
    assert file.read_text("utf-8").startswith(start)
    done = run(shell, "-n", str(file))
    assert (done.returncode, done.stderr) == (0, "")
