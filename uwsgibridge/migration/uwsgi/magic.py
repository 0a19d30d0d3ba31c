"""Replaces ``%d`` and its like in the text of a file, before anything else is done with it.

uWSGI replaces each ``%`` with the byte behind it, wherever they stand, in comments too (magic_sub in its
core/utils.c). What has no meaning becomes nothing, a line's end as well.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.plan import Place
from uwsgibridge.migration.uwsgi.limits import MOST_FILE_BYTES

# What stands for %V: of the version whose behaviour this is.
UWSGI_VERSION: Final = "2.0.31"
_PAIR: Final = re.compile(rb"%(.?)", re.DOTALL)
# Of the file that is read; the capital letters are those of the first one.
_OF_A_FILE: Final = "opsdcenxij"
_ESCAPED_BYTE: Final = re.compile(rb"%[0-9][0-9A-Fa-f]")


class Text(NamedTuple):
    """The lines of a file after magic.

    Attributes:
        lines: without their ends.
        numbers: for each line, its number in the file.
        lost: for lines where something became nothing, or was perhaps not meant: what was written there.
    """

    lines: list[str]
    numbers: list[int]
    lost: Mapping[int, list[str]]

    def joined(self) -> str:
        """Give the whole as one text."""
        return "\n".join(self.lines)

    def number(self, line: int) -> int:
        """Give the number in the file of a line that is counted from 1 on."""
        return self.numbers[min(max(line, 1), len(self.numbers)) - 1]


class Magic:
    """uWSGI's table of magic letters, as it changes from file to file.

    Args:
        start: the directory of the start.
    """

    def __init__(self, start: str) -> None:
        self._start = start
        self._of_file: dict[str, str] = {}
        self._of_first: dict[str, str] = {}
        # A file that no option has named (`uwsgi app.ini`, include) does not count as the first one.
        self.has_first = False

    def fill(self, name: str, place: Place) -> None:
        """Learn what is about to be read (config_magic_table_fill in core/uwsgi.c).

        Args:
            name: of the file, with ``:section`` where there is one.
            place: where the name stands, for errors.

        Raises:
            ConfigurationError: there is no such file.
        """
        self._of_file["o"] = name
        if name == "-":
            return
        file, colon, section = name.rpartition(":")
        if not colon:
            file = section
        if file or not colon:
            self._fill_with_path(self._full_path(file, place))
        self._of_file["x"] = section if colon else ""
        if not self.has_first:
            self._of_first = {it.upper(): self._of_file.get(it, "") for it in _OF_A_FILE}
            self.has_first = True

    def _full_path(self, name: str, place: Place) -> str:
        path = os.path.join(self._start, name)  # noqa: PTH118 - its text counts, "." and ".." stay
        try:
            # A link's own name and directory count, not the target's.
            if stat.S_ISLNK(os.lstat(path).st_mode):
                return path
            return os.path.realpath(path, strict=True)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            hint = (
                ""
                if name.startswith("/")
                else f"; relative paths begin at {self._start}, where the start is"
            )
            if "$(" in name or "%(" in name:
                hint = "; uWSGI opens it before it replaces placeholders, so that the name has to be written out"
            raise ConfigurationError(f"{place}: {name!r} can't be read: {reason}{hint}") from None

    def _fill_with_path(self, path: str) -> None:
        directory, _, name = path.rpartition("/")
        stem, dot, extension = name.rpartition(".")
        letters = self._of_file
        letters["p"] = path
        letters["s"] = name
        letters["d"] = f"{directory}/"
        letters["c"] = directory.rpartition("/")[2]
        letters["e"] = extension if dot else ""
        letters["n"] = stem if dot else name
        letters["j"] = _hash(os.fsencode(path))
        letters["i"] = str(os.lstat(path).st_ino)
        elements = [it for it in directory.split("/") if it]
        for digit in range(10):
            letters[str(digit)] = elements[digit] if digit < len(elements) else ""

    def replace(self, data: bytes, place: Place) -> Text:
        """Replace all magic of a file.

        Raises:
            ConfigurationError: so much comes of it that somebody must have meant harm.
        """
        if b"%" not in data:
            lines = data.decode("utf-8", "surrogateescape").split("\n")
            return Text(lines, list(range(1, len(lines) + 1)), {})
        values: dict[bytes, bytes] = {}
        lost: dict[int, list[str]] = {}
        eaten: set[int] = set()
        pieces: list[bytes] = []
        last = line = size = 0
        for match in _PAIR.finditer(data):
            pieces.append(data[last : match.start()])
            line += pieces[-1].count(b"\n")
            last = match.end()
            letter = match[1]
            if letter not in values:
                values[letter] = os.fsencode(self._value(letter))
            value = values[letter]
            pieces.append(value)
            size += len(pieces[-2]) + len(value)
            if size > 2 * MOST_FILE_BYTES:
                raise ConfigurationError(
                    f"{place}: % makes more than {2 * MOST_FILE_BYTES} bytes of it"
                )
            if letter == b"\n":
                eaten.add(line)
                lost.setdefault(line + 1, []).append("%")
                line += 1
            elif (escaped := _ESCAPED_BYTE.match(data, match.start())) or not value:
                written = (escaped or match)[0]
                lost.setdefault(line + 1, []).append(written.decode("utf-8", "replace"))
        pieces.append(data[last:])
        lines = b"".join(pieces).decode("utf-8", "surrogateescape").split("\n")
        count = data.count(b"\n")
        numbers = [1, *(it + 2 for it in range(count) if it not in eaten)]
        # Nobody has line ends in the name of a directory; where they are, the last lines have the last number.
        numbers += [count + 1] * (len(lines) - len(numbers))
        return Text(lines, numbers, lost)

    def _value(self, pair: bytes) -> str:
        letter = pair.decode("latin-1")
        if letter in {"%", "("}:
            return "%" if letter == "%" else "%("
        if letter in self._of_file:
            return self._of_file[letter]
        if letter in self._of_first:
            return self._of_first[letter]
        return self._of_the_system(letter)

    def _of_the_system(self, letter: str) -> str:
        match letter:
            case "v":
                return self._start
            case "h":
                return os.uname().nodename
            case "t":
                return str(int(time.time()))
            case "T":
                return str(time.time_ns() // 1000)
            case "V":
                return UWSGI_VERSION
            case "k":
                return str(os.sysconf("SC_NPROCESSORS_ONLN"))
            case "[":
                return "\033"
            case "u":
                return str(os.getuid())
            case "g":
                return str(os.getgid())
            case "U":
                return _user()
            case "G":
                return _group()
        return ""


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _group() -> str:
    import grp

    try:
        return grp.getgrgid(os.getgid()).gr_name
    except KeyError:
        return str(os.getgid())


def _hash(path: bytes) -> str:
    """Give ``%j`` (djb33x_hash in core/hash.c, its bytes as they stand in memory)."""
    value = 5381
    for byte in path:
        # char is signed on most processors.
        value = ((value * 33) ^ (byte if byte < 128 else byte - 256)) & 0xFFFFFFFF
    return value.to_bytes(4, "little").hex().upper()
