"""JSON, as uWSGI reads it where it was built with jansson: one object of texts, numbers, booleans and lists of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from uwsgibridge.migration.uwsgi.formats.entry import Entry, FormatError
from uwsgibridge.migration.uwsgi.magic import Text

_NAME: Final = re.compile(r'"([^"\\\n]{1,100})"\s*:')


def read_json(text: Text, section: str) -> list[Entry]:
    """Read one object of the outermost one.

    Raises:
        FormatError: it is no JSON, or has no such object.
    """
    source = text.joined()
    try:
        # Numbers stay as they are written: a huge one need not be made of its digits.
        whole = json.loads(source, parse_int=_Number, parse_float=_Number, parse_constant=_Number)
    except json.JSONDecodeError as error:
        raise FormatError(text.number(error.lineno), f"it is no JSON: {error.msg}") from None
    except RecursionError:
        raise FormatError(0, "its lists and objects are nested too deep") from None
    config = whole.get(section) if isinstance(whole, dict) else None
    if not isinstance(config, dict):
        raise FormatError(0, f'there is no object "{section}", and uWSGI would not start')
    lines = _lines(text, source, section)
    return [
        Entry(name, it, lines.get(name, 0))
        for name, value in config.items()
        for it in _values(name, value, lines.get(name, 0))
    ]


def _lines(text: Text, source: str, section: str) -> dict[str, int]:
    """Find the line of each name, as far as it is written without escapes."""
    lines: dict[str, int] = {}
    last, line = 0, 1
    for match in _NAME.finditer(source, max(source.find(f'"{section}"'), 0)):
        line += source.count("\n", last, match.start())
        last = match.start()
        lines.setdefault(match[1], text.number(line))
    return lines


class _Number(str):
    __slots__ = ()


def _values(name: str, value: Any, line: int) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        if one is None or isinstance(one, bool):
            yield "1" if one else "0"
        elif isinstance(one, str):
            yield str(one)
        else:
            kind = "an object" if isinstance(one, dict) else "a list within a list"
            raise FormatError(
                line, f"{name} is {kind}, which uWSGI leaves out; write a text, or take it out"
            )
