"""Reads sizes and times that a person has written: numbers of bytes and of seconds, with a unit or without."""

from __future__ import annotations

import re
from typing import Final

_SIZES: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    **{
        f"{letter}{ending}": 1024**power
        for power, letter in enumerate("kmgt", 1)
        for ending in ("", "i", "ib")
    },
}

# 1000s for some programs and 1024s for others.
_AMBIGUOUS: Final = {f"{letter}b": power for power, letter in enumerate("kmgt", 1)}

# In milliseconds.
_TIMES: Final = {
    "ms": 1,
    **dict.fromkeys(("s", "sec"), 1000),
    **dict.fromkeys(("m", "min"), 60_000),
    "h": 3_600_000,
    "d": 86_400_000,
}

_NUMBER_WITH_UNIT: Final = re.compile(
    r"(?P<number>(?P<whole>[0-9]{1,15})(?:\.(?P<part>[0-9]{1,9}))?) ?(?P<unit>[A-Za-z]+)"
)


def parse_bytes(text: str) -> int:
    """Read a size: ``65536``, ``64k``, ``64KiB``, ``1.5G``. A k is 1024 bytes, as in Nginx; large and small letters are the same.

    Returns:
        The number of bytes.

    Raises:
        ValueError: it is no size, or one that programs read differently (``64kB``).
    """
    try:
        return int(text)
    except ValueError:
        pass
    match = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    unit = match["unit"].lower() if match else ""
    if match is None or unit not in {*_SIZES, *_AMBIGUOUS}:
        raise ValueError(
            f"{text!r} is no size: write a number of bytes, or one with k, M, G or T, such as 64k or 256M"
        )
    if unit in _AMBIGUOUS:
        power = _AMBIGUOUS[unit]
        number, letter = match["number"], match["unit"][0]
        raise ValueError(
            f"{text!r} may mean 1000s or 1024s: write {number}{letter} for {number} times {1024**power} bytes, or "
            "the number of bytes"
        )
    digits, scale = _digits(match)
    size, rest = divmod(digits * _SIZES[unit], scale)
    if rest:
        raise ValueError(f"{text!r} is no whole number of bytes")
    return size


def parse_seconds(text: str) -> float:
    """Read a time: ``30``, ``0.5``, ``500ms``, ``30s``, ``2m``, ``1h``, ``1d``.

    Returns:
        The number of seconds, which may also be infinite or not a number: its bounds are checked elsewhere.

    Raises:
        ValueError: it is no time.
    """
    try:
        return float(text)
    except ValueError:
        pass
    match = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    if match is None or match["unit"] not in _TIMES:
        raise ValueError(
            f"{text!r} is no time: write a number of seconds, or one with ms, s, m, h or d, such as 500ms, 30s or 2m"
        )
    digits, scale = _digits(match)
    return digits * _TIMES[match["unit"]] / (scale * 1000)


def _digits(match: re.Match[str]) -> tuple[int, int]:
    """Give a number as a whole number, and what that is to be divided by."""
    part = match["part"] or ""
    scale: int = 10 ** len(part)
    return int(match["whole"] + part), scale
