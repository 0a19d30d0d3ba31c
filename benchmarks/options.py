"""Forms of options that more than one command line of the benchmarks has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


def parse_names(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[str, ...]:
    """Split "a,b": a callback of click."""
    return tuple(name for part in value.split(",") if (name := part.strip()))
