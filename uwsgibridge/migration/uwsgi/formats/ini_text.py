"""uWSGI's ini, which is not configparser's: no comments behind values, no quotes, no lines that go on.

The rules are those of uwsgi_ini_config in its core/ini.c.
"""

from __future__ import annotations

from typing import Final

from uwsgibridge.migration.uwsgi.formats.entry import Entry, FormatError
from uwsgibridge.migration.uwsgi.magic import Text

_SPACES: Final = " \t\r"
_MOST_SHOWN: Final = 8


def read_ini(text: Text, section: str) -> list[Entry]:
    """Read all sections of one name; several add up.

    Raises:
        FormatError: there is no such section.
    """
    entries = []
    is_wanted = is_there = False
    sections: dict[str, None] = {}
    for line, number in zip(text.lines, text.numbers, strict=True):
        stripped = line.strip(_SPACES)
        if not stripped or stripped[0] in ";#":
            continue
        if stripped[0] == "[":
            # The last character is taken for the bracket, whatever it is.
            is_wanted = stripped[1:-1] == section
            is_there |= is_wanted
            sections[stripped] = None
        elif is_wanted:
            name, equals, value = stripped.partition("=")
            entries.append(
                Entry(name.rstrip(_SPACES), value.lstrip(_SPACES), number, is_bare=not equals)
            )
    if not is_there:
        raise FormatError(0, _missing(text, section, list(sections)))
    return entries


def _missing(text: Text, section: str, sections: list[str]) -> str:
    message = f"there is no section [{section}], and uWSGI would read nothing"
    if text.lines[0].startswith("\ufeff"):
        return f"{message}; the file begins with a byte order mark, which has to go"
    near = [
        it for it in sections if it.strip("[]").partition("]")[0].strip().lower() == section.lower()
    ]
    if near:
        return f"{message}; {near[0]!r} has to be [{section}] and nothing else"
    if sections:
        rest = ", ..." if len(sections) > _MOST_SHOWN else ""
        return f"{message}; it has {', '.join(sections[:_MOST_SHOWN])}{rest}"
    return f"{message}; put [{section}] on a line of its own at the top"
