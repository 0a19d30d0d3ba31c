"""The help of each command's options: a sentence that can be read alone, with its unit."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from uwsgibridge.cli import main

UNITS = {"seconds": "econds", "bytes": "ytes"}


def options(command: click.Command, path: str) -> Iterator[tuple[str, click.Option]]:
    """Walk through all commands below one."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"{path} {parameter.opts[-1]}", parameter
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            assert child is not None
            yield from options(child, f"{path} {name}")


ALL = dict(options(main, "uwsgibridge"))


def test_there_are_all_commands() -> None:
    for name in (
        "serve --bind",
        "dev --port",
        "nginx --tls",
        "ping --timeout-seconds",
        "ctl top --count",
    ):
        assert f"uwsgibridge {name}" in ALL


@pytest.mark.parametrize("name", ALL)
def test_an_options_help_can_be_read_alone(name: str) -> None:
    said = ALL[name].help
    assert said is not None
    assert said[0].isupper()
    assert said.endswith(".")
    assert not re.match(
        r"(its?|they|them|that|this|for everything|for connecting|from one)\b", said, re.IGNORECASE
    )
    unit = UNITS.get(name.rpartition("-")[2])
    assert unit is None or unit in said
