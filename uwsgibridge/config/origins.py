"""Describes the options in force for an operator: each value, and where it came from. No secret is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS, Settings

DEFAULT: Final = "default"

_HIDDEN: Final = "(hidden)"


def describe_settings(settings: Settings, origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """Describe each option, in the order of the table.

    Args:
        settings: in force.
        origins: where the value of each option came from, by the name of its field; `DEFAULT` for those that are not in it.

    Returns:
        For each one ``option``, ``value``, ``is_default`` and ``origin``.
    """
    described = []
    for name, option in OPTIONS.items():
        value = getattr(settings, name)
        shown = option.shown(value)
        if option.is_secret:
            shown = [
                f"{it}={_HIDDEN}" if "=" in one else it
                for it, one in zip(shown, value, strict=True)
            ]
        described.append(
            {
                "option": option_name(name),
                "value": shown,
                "is_default": value == option.default_value(),
                "origin": origins.get(name, DEFAULT),
            }
        )
    return described
