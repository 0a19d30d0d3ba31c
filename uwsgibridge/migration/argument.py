"""Writes an option of ours as an argument of the command line."""

from __future__ import annotations

from typing import Any

from uwsgibridge.config.options import Kind, option_name
from uwsgibridge.config.settings import OPTIONS


def as_argument(name: str, value: Any) -> str:
    """Write one value of an option as an argument, for people.

    Args:
        name: of the option, as a field of the settings.
        value: of the option's kind; of several texts, one.
    """
    option = option_name(name)
    if OPTIONS[name].kind is Kind.FLAG:
        return option if value else f"--no-{option.removeprefix('--')}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return f"{option} '{text}'" if any(it.isspace() for it in text) else f"{option} {text}"
