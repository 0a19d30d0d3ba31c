"""The command line: `python -m benchmarks.instructions --help`."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import replace
from pathlib import Path

import click

from benchmarks.errors import BenchmarkError
from benchmarks.instructions.callgrind import find_valgrind
from benchmarks.instructions.counting import Conditions, Count, count
from benchmarks.instructions.figures import (
    FILE,
    Figures,
    differences,
    format_comparison,
    merged,
    read,
    write,
)
from benchmarks.instructions.scenarios import SCENARIOS, Scenario, choose
from benchmarks.interrupting import signals_end_it
from benchmarks.launching import server_environment
from benchmarks.options import parse_names
from benchmarks.placement import choose_placement, on_cpus
from benchmarks.servers import version
from uwsgibridge.fast import accelerator, accelerator_state

_ROOT = Path(__file__).resolve().parents[2]

# The versions that the figures depend on. The C library does too, but less.
_PACKAGES = ("trio", "outcome", "uvloop")


@click.command(
    help="Count the instructions that a request costs the bridge in user space, and compare them with the last figures."
)
@click.option(
    "--only",
    metavar="SCENARIO,...",
    default="",
    callback=parse_names,
    help="These scenarios alone; the names are in --list.",
)
@click.option(
    "--before",
    metavar="DIRECTORY",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Count another checkout of the project too, and compare with it in place of the last figures.",
)
@click.option(
    "--requests",
    type=click.IntRange(1),
    default=320,
    show_default=True,
    help="Requests in each repetition, for each size of burst.",
)
@click.option("--repetitions", type=click.IntRange(1), default=3, show_default=True)
@click.option("--save", is_flag=True, help=f"Make these the last figures: {FILE.name}.")
@click.option("--list", "list_scenarios", is_flag=True, help="List the scenarios and exit.")
def main(
    only: tuple[str, ...],
    before: Path | None,
    requests: int,
    repetitions: int,
    save: bool,
    list_scenarios: bool,
) -> None:
    """Do what the command line asks for; a dearer request is no failure."""
    if list_scenarios:
        for scenario in SCENARIOS:
            click.echo(f"{scenario.name:15}{scenario.summary}")
        return
    try:
        scenarios = choose(only, has_accelerator=accelerator is not None)
        usable = os.sched_getaffinity(0)
        placement = choose_placement(usable)
        conditions = Conditions(
            valgrind=find_valgrind(),
            python=Path(sys.executable),
            checkout=_ROOT,
            # Dictionaries and sets are then in the same order each time.
            environment={**server_environment(os.environ), "PYTHONHASHSEED": "0"},
            cpus=placement.server,
            requests=requests,
            repetitions=repetitions,
        )
        with signals_end_it(), on_cpus(placement.load):
            click.echo(_compared(conditions, scenarios, before=before, save=save))
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error


def _compared(
    conditions: Conditions, scenarios: list[Scenario], *, before: Path | None, save: bool
) -> str:
    environment = _environment()
    last = read(FILE)
    notes = (
        []
        if accelerator
        else [f"The accelerator: {accelerator_state}. What it does was not counted."]
    )
    if before is None:
        against, before_is = last, "last"
        if changed := differences(last.environment, environment):
            notes.append(f"The last figures were counted with {', '.join(changed)}.")
    else:
        python = before / ".venv" / "bin" / "python"
        if not python.exists():
            raise BenchmarkError(
                f"--before {before}: there is no .venv/bin/python; run `make test` there once."
            )
        earlier = replace(conditions, checkout=before, python=python)
        against, before_is = _figures({}, _counted(earlier, scenarios, " before")), "before"
    counts = _counted(conditions, scenarios, "")
    if save:
        write(FILE, merged(last, _figures(environment, counts)))
        notes.append(f"These are the last figures from now on, in {FILE.relative_to(_ROOT)}.")
    summaries = {scenario.name: scenario.summary for scenario in scenarios}
    return "\n".join([format_comparison(against, counts, summaries, before_is=before_is), *notes])


def _counted(conditions: Conditions, scenarios: list[Scenario], which: str) -> list[Count]:
    counts = []
    for scenario in scenarios:
        click.echo(f"{scenario.name}{which} ...", err=True)
        counts += count(conditions, scenario)
    return counts


def _figures(environment: dict[str, str], counts: list[Count]) -> Figures:
    return Figures(environment, {(c.scenario, c.burst): c.instructions for c in counts})


def _environment() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        "machine": platform.machine(),
        **{package: version(package) or "missing" for package in _PACKAGES},
    }


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.instructions")
