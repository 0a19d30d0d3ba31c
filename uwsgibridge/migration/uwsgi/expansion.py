"""Replaces ``$(VARIABLE)``, then ``@(file)``, then ``%(option)``, after everything is read.

uWSGI goes through all values three times (uwsgi_apply_config_pass in core/utils.c). What was applied as soon as it was
read is left out. What a placeholder gives is looked through again, from its second character on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.uwsgi.files import Files
from uwsgibridge.migration.uwsgi.item import Item
from uwsgibridge.migration.uwsgi.limits import (
    LARGEST_NUMBER,
    MOST_EXPANDED_CHARACTERS,
    MOST_VALUE_CHARACTERS,
)

_INTEGER: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
# More digits than 64 bits have.
_MOST_DIGITS: Final = 20


class Budget:
    """Bounds what replacing writes and looks through, and so its time."""

    def __init__(self) -> None:
        self._left = MOST_EXPANDED_CHARACTERS

    def spend(self, length: int, item: Item) -> None:
        """Take the length of a value that is about to be made.

        Raises:
            ConfigurationError: the value is too long, or all of them are.
        """
        self._left -= length
        if length > MOST_VALUE_CHARACTERS or self._left < 0:
            raise ConfigurationError(
                f"{item.place}: {item.name} gets too long as its placeholders are replaced; do they name each other?"
            )

    def substitute(self, text: str, what: str, replacement: str | None, item: Item) -> str:
        """Replace all occurrences.

        Raises:
            ConfigurationError: the result is too long.
        """
        if replacement is None or what not in text:
            return text
        self.spend(len(text) + text.count(what) * len(replacement), item)
        return text.replace(what, replacement)


def expand(items: Sequence[Item], environ: Mapping[str, str], files: Files, budget: Budget) -> None:
    """Replace all placeholders in all values.

    Args:
        items: all that was read; their values change.
        environ: of the process. What ``env`` sets comes too late for it.
        files: reads what ``@( )`` names.
        budget: bounds the work.

    Raises:
        ConfigurationError: a value grows without end, a file can't be read, or a number is too large.
    """
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.name, item)

    def variable(name: str, item: Item) -> str | None:
        found = environ.get(name)
        if found is not None:
            _note_variables(item, (name,))
        return found

    def file(name: str, item: Item) -> str:
        text = files.read(name, item.place).decode("utf-8", "surrogateescape")
        return text[:-1] if text.endswith(("\n", "\r")) else text

    def option(name: str, item: Item) -> str | None:
        return _option(name, first, item, budget)

    for symbol, hook in (("$", variable), ("@", file), ("%", option)):
        opening = f"{symbol}("
        marks = re.compile(rf"[(){re.escape(symbol)}]")
        for item in items:
            if item.value is not None and not item.is_done and opening in item.value:
                _replace(item, item.value, symbol, marks, hook, budget)


def _replace(
    item: Item,
    value: str,
    symbol: str,
    marks: re.Pattern[str],
    hook: Callable[[str, Item], str | None],
    budget: Budget,
) -> None:
    begin = value.find(f"{symbol}(")
    while begin >= 0:
        budget.spend(len(value), item)
        begin, end = _find(value, begin, marks)
        if end < 0:
            break
        found = hook(value[begin + 2 : end], item) if end > begin + 2 else None
        if found is None:
            begin = value.find(f"{symbol}(", end + 1)
            continue
        budget.spend(len(value) - (end + 1 - begin) + len(found), item)
        # A placeholder may name the setting that it stands in.
        item.value = value = f"{value[:begin]}{found}{value[end + 1 :]}"
        begin = value.find(f"{symbol}(", 1)


def _find(value: str, begin: int, marks: re.Pattern[str]) -> tuple[int, int]:
    """Find the bracket that closes a placeholder.

    Returns:
        Where the placeholder begins and where its closing bracket is; -1 where none is. A symbol within one gives
        that one up, and may begin the next one.
    """
    symbol = value[begin]
    depth = 0
    position = begin + 2
    while (match := marks.search(value, position)) is not None:
        position = match.end()
        if match[0] == symbol:
            begin = value.find(f"{symbol}(", match.start())
            if begin < 0:
                return -1, -1
            position, depth = begin + 2, 0
        elif match[0] == "(":
            depth += 1
        elif depth:
            depth -= 1
        else:
            return begin, match.start()
    return -1, -1


def _option(key: str, first: Mapping[str, Item], item: Item, budget: Budget) -> str | None:
    """Give what ``%(key)`` stands for (uwsgi_manage_placeholder in core/config.c).

    It is the first value of an option, not the last one. With spaces in it, it is a calculation from left to right,
    and what stands side by side is joined.
    """
    if " " not in key:
        found = first.get(key)
        if found is not None:
            _name(found, item)
        return None if found is None else found.value
    result: str | None = None
    operator = ""
    for word in key.split(" "):
        if not word:
            continue
        if word in {"+", "-", "*", "/"}:
            operator = word
            continue
        if word in {"++", "--"}:
            if result is not None:
                result = _checked(_integer(result) + (1 if word == "++" else -1), item)
            operator = ""
            continue
        value = word
        if not (word.isascii() and word.isdecimal()):
            found = first.get(word)
            value = "" if found is None or found.value is None else found.value
            if found is not None:
                _name(found, item)
        if operator:
            result = _checked(_calculate(_integer(result or ""), operator, _integer(value)), item)
        else:
            budget.spend(len(result or "") + len(value), item)
            result = (result or "") + value
        operator = ""
    return result


def _name(named: Item, item: Item) -> None:
    """Note that the value of an item names another one."""
    named.is_named = True
    _note_variables(item, named.variables)


def _note_variables(item: Item, names: tuple[str, ...]) -> None:
    item.variables = tuple(dict.fromkeys((*item.variables, *names)))


def _integer(text: str) -> int:
    """Read as strtoll(3) does."""
    match = _INTEGER.match(text)
    if match is None:
        return 0
    digits = match[1]
    if len(digits) > _MOST_DIGITS:
        return -LARGEST_NUMBER if digits[0] == "-" else LARGEST_NUMBER
    return max(-LARGEST_NUMBER - 1, min(int(digits), LARGEST_NUMBER))


def _calculate(left: int, operator: str, right: int) -> int:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    if right == 0:
        return 0
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _checked(number: int, item: Item) -> str:
    if abs(number) > LARGEST_NUMBER:
        raise ConfigurationError(
            f"{item.place}: {item.name} calculates a number that has more than 64 bits"
        )
    return str(number)
