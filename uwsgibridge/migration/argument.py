"""Writes an option of ours as an argument of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from uwsgibridge.config.options import Kind, option_name
from uwsgibridge.config.settings import OPTIONS

_UNITS: Final[Mapping[str, int]] = {"G": 1024**3, "M": 1024**2}


def as_argument(name: str, value: Any) -> str:
    """Write one value of an option as an argument, for people.

    Args:
        name: of the option, as a field of the settings.
        value: of the option's kind; of several texts, one.
    """
    option = option_name(name)
    if OPTIONS[name].kind is Kind.FLAG:
        return option if value else f"--no-{option.removeprefix('--')}"
    text = str(value) if isinstance(value, str) else written_number(name, value)
    return f"{option} '{text}'" if any(it.isspace() for it in text) else f"{option} {text}"


def written_number(name: str, value: float) -> str:
    """Write a number: bytes with their unit where that is shorter, and seconds without needless decimals."""
    if OPTIONS[name].kind is Kind.BYTES:
        for unit, size in _UNITS.items():
            if value and not value % size:
                return f"{int(value) // size}{unit}"
    return str(int(value)) if float(value).is_integer() else str(value)
