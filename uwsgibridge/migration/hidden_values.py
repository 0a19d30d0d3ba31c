"""Keeps values of variables that may be secret out of what is printed, which people paste into tickets."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "..."
_NAMES: Final = re.compile(
    r"SECRET|PASSW|TOKEN|CREDENTIAL|DSN|(^|_)(KEY|PWD|AUTH)(_|$)", re.IGNORECASE
)
# The user and the password of a URL.
_LOGIN: Final = re.compile(r"://[^/\s@]*:[^/\s@]*@")


def shown_value(name: str, value: str) -> str:
    """Give a variable's value for people.

    Args:
        name: of the variable.
        value: its value.

    Returns:
        The value, or `HIDDEN` where the name or a login in a URL says that it may be secret.
    """
    return HIDDEN if value and (_NAMES.search(name) or _LOGIN.search(value)) else value
