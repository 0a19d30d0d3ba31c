"""YAML, as both of uWSGI's readers have it.

uWSGI from PyPI has a reader of its own: each line is ``key: value``, whatever YAML says. uWSGI of Debian was built
with libyaml. A file that both read alike is read. A line that they read otherwise is refused, since nobody can tell
which of the two has started this application until now. No YAML library is needed for that.
"""

from __future__ import annotations

import re
from typing import Final

from uwsgibridge.migration.plan import Verdict
from uwsgibridge.migration.uwsgi.formats.entry import Entry, FormatError, Note
from uwsgibridge.migration.uwsgi.magic import Text

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_./%(][^#'\"]*")
_SINGLE: Final = re.compile(r"'((?:[^']|'')*)' *(?: #.*)?")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)" *(?: #.*)?')
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPES: Final = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "/": "/", "0": "\0"}
_FLOW: Final = re.compile(r"\[(.*)\] *(?: #.*)?")
# With these, libyaml finds a token that it does not know, and uWSGI does not start.
_NEVER_FIRST: Final = "%@`"
_BEYOND: Final = "{}&*!|>],"
_BEYOND_TEXT: Final = 'write one "name: value" to a line, as often as a name is needed'


class _LibyamlFails(Exception):
    """With libyaml, uWSGI does not start: the file can only have been read by the other reader."""


def read_yaml(text: Text, section: str) -> list[Entry]:
    """Read one mapping of the outermost one.

    Raises:
        FormatError: there is no such mapping, or it has YAML that is not read here.
    """
    lines = list(zip(text.lines, text.numbers, strict=True))
    first = next((index for index, (line, _) in enumerate(lines) if _is_head(line, section)), None)
    if first is None:
        raise FormatError(
            0, f'there is no line "{section}:" at the left margin, and uWSGI would read nothing'
        )
    body = lines[first + 1 :]
    flat = _read_flat(body)
    try:
        standard = _read_standard(body)
    except _LibyamlFails:
        return [entry for line in flat.values() for entry in line]
    return _merge(standard, flat)


def _is_head(line: str, section: str) -> bool:
    return line.partition("#")[0].partition(":")[0] == section and ":" in line.partition("#")[0]


def _read_flat(body: list[tuple[str, int]]) -> dict[int, list[Entry]]:
    """Read as uWSGI without libyaml does (core/yaml.c); by the number of the line."""
    found: dict[int, list[Entry]] = {}
    for raw, number in body:
        line = raw.partition("#")[0]
        content = line.lstrip(" \t\r")
        if not line:
            continue
        if line[0] not in " \t\r":
            break
        if not content:
            continue
        if content[0] in "-[{":
            break
        key, separator, value = content.partition(": ")
        if not separator:
            key, separator, value = content.partition(":\t")
        if not separator:
            break
        found[number] = [Entry(key.rstrip(" \t"), value.lstrip(" \t\r").rstrip(" \t"), number)]
    return found


def _read_standard(body: list[tuple[str, int]]) -> dict[int, list[Entry]]:
    """Read as uWSGI with libyaml does, as far as the file is plain; by the number of the line."""
    found: dict[int, list[Entry]] = {}
    indent: int | None = None
    key: str | None = None
    list_indent: int | None = None
    for raw, number in body:
        line = raw.removesuffix("\r").rstrip(" \t")
        content = line.lstrip(" ")
        if not content or content[0] == "#":
            continue
        depth = len(line) - len(content)
        is_item = content == "-" or content.startswith("- ")
        if content[0] == "\t":
            # A tab never indents.
            raise _LibyamlFails
        if depth == 0 and not (is_item and key is not None and indent == 0):
            break
        if indent is None:
            indent = depth
        if is_item and key is not None and depth >= indent and list_indent in {None, depth}:
            list_indent = depth
            found[number] = [
                Entry(key, it, number) for it in _scalars(content[1:].lstrip(" "), number)
            ]
            continue
        if depth != indent:
            raise FormatError(
                number, f"it is indented otherwise than the lines above it; {_BEYOND_TEXT}"
            )
        name, colon, rest = content.partition(":")
        name = name.rstrip(" ")
        if is_item or not colon or rest[:1] not in {"", " "} or not _PLAIN_KEY.fullmatch(name):
            raise FormatError(
                number, f"uWSGI's two readers of YAML do not agree on it; {_BEYOND_TEXT}"
            )
        if name[0] == "%":
            raise _LibyamlFails
        values = _scalars(rest.lstrip(" "), number)
        # A list may follow where nothing stands behind the name.
        key, list_indent = (None if values else name), None
        if values:
            found[number] = [Entry(name, it, number) for it in values]
    return found


def _scalars(value: str, number: int) -> list[str]:
    """Give what stands behind a name or a dash: nothing, one text, or those of a list in brackets."""
    if not value or value[0] == "#":
        return []
    if value[0] == "[":
        match = _FLOW.fullmatch(value)
        if match is None or any(it in match[1] for it in "[]{}\"'#"):
            raise FormatError(number, f"this list is not read; {_BEYOND_TEXT}")
        return [_scalar(it.strip(" "), number) for it in match[1].split(",") if it.strip(" ")]
    return [_scalar(value, number)]


def _scalar(value: str, number: int) -> str:
    if value[0] == "'":
        match = _SINGLE.fullmatch(value)
        if match is not None:
            return match[1].replace("''", "'")
    elif value[0] == '"':
        match = _DOUBLE.fullmatch(value)
        if match is not None and all(it in _ESCAPES for it in _ESCAPE.findall(match[1])):
            return _ESCAPE.sub(lambda it: _ESCAPES[it[1]], match[1])
    elif value[0] in _NEVER_FIRST:
        raise _LibyamlFails
    elif (
        value[0] not in _BEYOND
        and not value.startswith(("- ", "? ", ": "))
        and value not in {"-", "?", ":"}
    ):
        plain = value.partition(" #")[0].rstrip(" ")
        if ": " in plain or plain.endswith(":"):
            raise _LibyamlFails
        if "\t" not in plain:
            return plain
    raise FormatError(number, f"this value is not read; {_BEYOND_TEXT}")


def _merge(standard: dict[int, list[Entry]], flat: dict[int, list[Entry]]) -> list[Entry]:
    """Give what libyaml reads, with a refusal for each line that the other reader has otherwise."""
    merged = []
    for number in sorted(standard.keys() | flat.keys()):
        ours, theirs = standard.get(number, []), flat.get(number, [])
        if ours == theirs:
            merged += ours
            continue
        text = (
            f"uWSGI reads it in two ways: with libyaml (Debian's) as {_shown(ours)}, without (PyPI's) as "
            f"{_shown(theirs)}. Write it so that both agree: no quotes, no list (repeat the name), no # within a "
            "value (--ignore yaml-form takes libyaml's)."
        )
        note: Note = (Verdict.REFUSED, text, "yaml-form")
        merged += [
            Entry(it.name, it.value, it.line, notes=(note,) if index == 0 else ())
            for index, it in enumerate(ours or theirs)
        ]
    return merged


def _shown(entries: list[Entry]) -> str:
    return ", ".join(f"{it.name} = {it.value}" for it in entries) or "nothing"
