r"""Reads the text of an Nginx configuration as Nginx does.

The words are those of ngx_conf_read_token() in nginx's src/core/ngx_conf_file.c: blanks end a word, ``;`` and ``{`` end a
directive, ``#`` starts a comment only where a word may start, a quote opens a quoted word only at the start of a word,
``${`` is no block, and ``\`` keeps the next character from being syntax. Of its escapes only ``\" \' \\ \t \r \n`` are
undone; any other backslash stays, as regular expressions need it.

No library is used. crossplane (0.5.8) has had no release since 2022; of its forks, nginx-crossplane (0.5.14) had three on
one day of 2025. They keep ``\t`` as two characters, end a word at any ``}``, and read words of a block that Nginx refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_BLANKS: Final = frozenset(" \t\r\n")
_ESCAPES: Final = {'"': '"', "'": "'", "\\": "\\", "t": "\t", "r": "\r", "n": "\n"}
_ESCAPED: Final = re.compile(r"\\([\"'\\trn])")

# Words of Nginx may be as long as its buffer, NGX_CONF_BUFFER.
_MOST_WORD_CHARACTERS: Final = 4096
_MOST_DEPTH: Final = 64

# The name of a block of the Lua modules, whose text is Lua and not Nginx's (lua-nginx-module, stream-lua-nginx-module).
_LUA_BLOCK: Final = re.compile(r"[a-z_]+_by_lua_block\Z")
# What has a meaning in Lua: comments and strings, long or short, and braces. `--[[ ]]` is a long comment.
_LUA: Final = re.compile(
    r"--\[(?P<comment>=*)\[.*?\](?P=comment)\]|--[^\n]*|\[(?P<long>=*)\[.*?\](?P=long)\]"
    r"|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|(?P<open>\{)|(?P<close>\})",
    re.DOTALL,
)


class ReadingError(Exception):
    """The text is no configuration of Nginx.

    Attributes:
        file: where it stands.
        line: the line, from 1 on.
        reason: a clause that says what is wrong.
    """

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}")
        self.file = file
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive, and where it stands.

    Attributes:
        name: its first word.
        args: the words after it, unquoted.
        file: the file, as it was given or as an include names it.
        line: the line of its first word, from 1 on.
        block: the directives between its braces; None where it ends with a semicolon.
    """

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    block: tuple[Directive, ...] | None = None

    @property
    def value(self) -> str:
        """The first argument, or nothing."""
        return self.args[0] if self.args else ""


def read(text: str, file: str) -> tuple[Directive, ...]:
    """Read a text.

    Args:
        text: the whole of a file.
        file: its name, for directives and errors.

    Raises:
        ReadingError: Nginx would not read it either, or it is nested more than 64 levels deep.
    """
    return _Reader(text, file).read()


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._line = 1
        self._word_line = 1
        self._first_line = 1

    def read(self) -> tuple[Directive, ...]:
        levels: list[list[Directive]] = [[]]
        heads: list[tuple[list[str], int]] = []
        while True:
            words: list[str] = []
            end = self._read_words(words)
            if end == "}":
                if not heads:
                    raise self._error('unexpected "}"')
                head, line = heads.pop()
                block = tuple(levels.pop())
                levels[-1].append(self._directive(head, line, block))
            elif not end:
                if heads:
                    raise ReadingError(
                        self._file, heads[-1][1], f'the block of "{heads[-1][0][0]}" has no "}}"'
                    )
                return tuple(levels[0])
            elif end == ";":
                levels[-1].append(self._directive(words, self._first_line, None))
            elif _LUA_BLOCK.match(words[0]):
                line = self._first_line
                self._skip_lua(words[0])
                levels[-1].append(self._directive(words, line, ()))
            else:
                if len(heads) == _MOST_DEPTH:
                    raise self._error(f"blocks are nested more than {_MOST_DEPTH} levels deep")
                heads.append((words, self._first_line))
                levels.append([])

    def _directive(
        self, words: list[str], line: int, block: tuple[Directive, ...] | None
    ) -> Directive:
        return Directive(words[0], tuple(words[1:]), self._file, line, block)

    def _error(self, reason: str) -> ReadingError:
        return ReadingError(self._file, self._line, reason)

    def _next(self) -> str:
        """Take the next character; none at the end."""
        if self._at == len(self._text):
            return ""
        character = self._text[self._at]
        self._at += 1
        if character == "\n":
            self._line += 1
        return character

    def _read_words(self, words: list[str]) -> str:
        """Read up to the end of a directive: ``;``, ``{``, ``}``, or nothing at the end of the text."""
        while True:
            character = self._next()
            if not character:
                if words:
                    raise self._error('unexpected end of file, expecting ";" or "}"')
                return ""
            if character in _BLANKS:
                continue
            if character == "#":
                while self._next() not in ("\n", ""):
                    pass
                continue
            if character in ";{":
                if not words:
                    raise self._error(f'unexpected "{character}"')
                return character
            if character == "}":
                if words:
                    raise self._error('unexpected "}": the directive before it has no ";"')
                return character
            if not words:
                self._first_line = self._line
            self._word_line = self._line
            if character in "\"'":
                words.append(self._read_quoted(character))
                end = self._after_quoted(words)
            else:
                end = self._read_bare(character, words)
            if end:
                return end

    def _read_quoted(self, quote: str) -> str:
        start = self._at
        while True:
            character = self._next()
            if character == "\\":
                character = self._next()
                if character:
                    continue
            if not character:
                raise ReadingError(self._file, self._word_line, f"a word has no closing {quote}")
            if character == quote:
                return self._word(start, self._at - 1)

    def _after_quoted(self, words: list[str]) -> str:
        """Take what may follow a quoted word: a blank, an end of the directive, or the bracket of an ``if``."""
        character = self._next()
        if not character or character in _BLANKS:
            return ""
        if character in ";{":
            return character
        if character == ")":
            # The bracket begins a word, as in `if ($host = "a")`.
            self._word_line = self._line
            return self._read_bare(character, words)
        raise self._error(f'unexpected "{character}" after a quoted word')

    def _read_bare(self, character: str, words: list[str]) -> str:
        start = self._at - 1
        is_variable = False
        while character:
            if character == "{" and is_variable:
                pass
            elif character in _BLANKS:
                words.append(self._word(start, self._at - 1))
                return ""
            elif character in ";{":
                words.append(self._word(start, self._at - 1))
                return character
            elif character == "\\":
                self._next()
            is_variable = character == "$" or (is_variable and character == "{")
            character = self._next()
        raise self._error('unexpected end of file, expecting ";" or "}"')

    def _word(self, start: int, end: int) -> str:
        if end - start > _MOST_WORD_CHARACTERS:
            raise ReadingError(
                self._file,
                self._word_line,
                f"a word has more than {_MOST_WORD_CHARACTERS} characters: is a quote missing?",
            )
        return _ESCAPED.sub(lambda found: _ESCAPES[found[1]], self._text[start:end])

    def _skip_lua(self, name: str) -> None:
        depth = 1
        for found in _LUA.finditer(self._text, self._at):
            depth += bool(found["open"]) - bool(found["close"])
            if not depth:
                self._line += self._text.count("\n", self._at, found.end())
                self._at = found.end()
                return
        raise self._error(f'the Lua of "{name}" has no "}}"')
