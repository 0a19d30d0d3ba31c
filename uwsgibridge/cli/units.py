"""Types of click for options that take bytes or seconds, with a unit or without."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from uwsgibridge.config.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    _Number = click.ParamType[float]
else:
    _Number = click.ParamType  # takes no type in older versions of click


class _WithUnit(_Number):
    def __init__(
        self,
        name: str,
        parse: Callable[[str], float],
        *,
        is_whole: bool = False,
        least: float | None = None,
        most: float | None = None,
    ) -> None:
        self.name = name
        self._parse = parse
        self._is_whole = is_whole
        self._least = least
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read what a person has written, or take a number as it is."""
        number = value
        if isinstance(value, str):
            try:
                number = self._parse(value)
            except ValueError as error:
                self.fail(f"{error}.", param, ctx)
        # The comparisons are false for float("nan").
        if self._least is not None and not number >= self._least:
            self.fail(f"{value} must be at least {self._least:g} {self.name}.", param, ctx)
        if self._most is not None and not number <= self._most:
            self.fail(f"{value} must be at most {self._most:g} {self.name}.", param, ctx)
        if not self._is_whole:
            return float(number)
        if number != number // 1:
            self.fail(f"{value} is no whole number of {self.name}.", param, ctx)
        return int(number)


def seconds(
    *, is_whole: bool = False, least: float | None = None, most: float | None = None
) -> click.ParamType[float]:
    """Make the type of a time.

    Args:
        is_whole: whether it takes a whole number of seconds, which is then an int.
        least: its lower bound, included; None leaves it to somebody else.
        most: its upper bound, included; None leaves it to somebody else.
    """
    return _WithUnit("seconds", parse_seconds, is_whole=is_whole, least=least, most=most)


def size(*, least: int | None = None) -> click.ParamType[float]:
    """Make the type of a number of bytes.

    Args:
        least: its lower bound, included; None leaves it to somebody else.
    """
    return _WithUnit("bytes", parse_bytes, is_whole=True, least=least)


SECONDS: Final = seconds()
BYTES: Final = size()
