"""The last figures, which are part of the repository: read them, write them, and hold new ones against them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.instructions.scenarios import SCENARIOS
from benchmarks.table import format_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.instructions.counting import Count

FILE = Path(__file__).with_name("figures.toml")

_HEAD = """\
# User instructions a request. `make bench-instructions` counts again and compares; it writes this file
# with ARGS=--save. Keys are sizes of bursts: how many requests come at once.
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of one checkout, and what they were counted with.

    `environment` has names of packages and their versions; `instructions` is keyed by the scenario's name and the
    size of the burst.
    """

    environment: Mapping[str, str]
    instructions: Mapping[tuple[str, int], float]


def read(file: Path) -> Figures:
    """Read what `write` has written.

    Raises:
        BenchmarkError: the file isn't there or isn't one of these.
    """
    try:
        content = tomllib.loads(file.read_text())
        environment = content.pop("environment")
        return Figures(
            environment={str(name): str(value) for name, value in environment.items()},
            instructions={
                (scenario, int(burst)): float(instructions)
                for scenario, bursts in content.items()
                for burst, instructions in bursts.items()
            },
        )
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise BenchmarkError(f"{file} can't be read: {error!r}.") from error


def write(file: Path, figures: Figures) -> None:
    """Write the figures as TOML, rounded to whole instructions."""
    lines = [_HEAD, "[environment]"]
    lines += [f'"{name}" = "{value}"' for name, value in figures.environment.items()]
    for scenario in dict.fromkeys(name for name, _ in figures.instructions):
        lines += ["", f"[{scenario}]"]
        lines += [
            f"{burst} = {instructions:_.0f}"
            for (name, burst), instructions in figures.instructions.items()
            if name == scenario
        ]
    file.write_text("\n".join(lines) + "\n")


def merged(old: Figures, new: Figures) -> Figures:
    """Return the new figures, and the old ones of what hasn't been counted this time.

    Raises:
        BenchmarkError: old figures would remain that were counted with other versions.
    """
    kept = {key: value for key, value in old.instructions.items() if key not in new.instructions}
    if kept and (changed := differences(old.environment, new.environment)):
        raise BenchmarkError(
            f"--save with --only would mix figures of different versions ({', '.join(changed)}):"
            " count all of them."
        )
    instructions = {**kept, **new.instructions}
    order = [scenario.name for scenario in SCENARIOS]
    return Figures(
        new.environment,
        dict(sorted(instructions.items(), key=lambda item: (order.index(item[0][0]), -item[0][1]))),
    )


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Say in which versions two environments differ: "trio 0.30, not 0.31" has the old one first."""
    return [
        f"{name} {old.get(name, 'missing')}, not {new.get(name, 'missing')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def format_comparison(
    before: Figures, counts: Sequence[Count], summaries: Mapping[str, str], *, before_is: str
) -> str:
    """Return a table of new counts beside earlier ones, and their ratios.

    Args:
        before: what the counts are held against.
        counts: the new ones.
        summaries: what each scenario is, by its name.
        before_is: the heading of the earlier ones' column.
    """
    rows = []
    for new in counts:
        old = before.instructions.get((new.scenario, new.burst))
        rows.append(
            (
                new.scenario,
                summaries[new.scenario],
                f"{new.burst} at once" if new.burst > 1 else "one at a time",
                f"{old:,.0f}" if old else "-",
                f"{new.instructions:,.0f}",
                f"{new.instructions / old:.3f}" if old else "-",
                f"{new.spread:.1%}",
            )
        )
    header = ("scenario", "what it is", "requests", before_is, "now", "ratio", "spread")
    return format_table(header, rows, words=3)
