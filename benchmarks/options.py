"""Forms of options that more than one command line of the benchmarks has."""

from __future__ import annotations

import click


def parse_names(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[str, ...]:
    """Split "a,b": a callback of click."""
    return tuple(name for part in value.split(",") if (name := part.strip()))


def parse_numbers(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[int, ...]:
    """Split "1,8" into numbers above 0, each of them once: a callback of click; nothing gives none."""
    if not value:
        return ()
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{value!r} is no list of numbers above 0, such as 1,8,64")
    return numbers
