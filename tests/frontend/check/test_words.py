r"""Words are those that Nginx reads: each text here is given to a real Nginx too, which names the word it has read.

A directive that Nginx does not know is an error with its name: ``unknown directive "..."``.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from uwsgibridge.frontend.binary import choose_nginx
from uwsgibridge.frontend.check.reading import ReadingError, read

# The text of a directive, and its first word; None where Nginx refuses the text.
WORDS = {
    "plain x;": "plain",
    "# a\n\t plain\r\nx;": "plain",
    "a#b;": "a#b",
    '"a b";': "a b",
    "'a \"b\"';": 'a "b"',
    'a"b;': 'a"b',
    "a'b' c;": "a'b'",
    '"a\\"b";': 'a"b',
    "'it\\'s';": "it's",
    '"a\\\\b";': "a\\b",
    "a\\;b;": "a\\;b",
    "a\\ b;": "a\\ b",
    "a\\d+;": "a\\d+",
    '"a\\tb";': "a\tb",
    "a\\nb;": "a\nb",
    "${x}a;": "${x}a",
    "a${x;": "a${x",
    "a}b;": "a}b",
    "$;": "$",
    "a$$b;": "a$$b",
    '"a;b{c}" d;': "a;b{c}",
    '"a")b;': "a",
    '"a" )b;': "a",
    "\u00fc;": "\u00fc",
    '"a"b;': None,
    "\"a\"'b';": None,
    ";": None,
    "{ }": None,
    "a b }": None,
    "}": None,
    "a b": None,
    '"a;': None,
    "a\\": None,
}


@pytest.mark.parametrize(("text", "word"), WORDS.items(), ids=map(repr, WORDS))
def test_a_word_is_the_one_that_is_written(text: str, word: str | None) -> None:
    if word is None:
        with pytest.raises(ReadingError):
            read(text, "f")
    else:
        assert read(text, "f")[0].name == word


@pytest.mark.parametrize(("text", "word"), WORDS.items(), ids=map(repr, WORDS))
def test_nginx_reads_the_same_word(text: str, word: str | None, tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text(text)
    done = subprocess.run(
        [choose_nginx().path, "-t", "-q", "-e", "stderr", "-p", tmp_path, "-c", path],
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    said = re.search(r'unknown directive "(.*?)" in ', done.stderr.decode(), re.DOTALL)
    assert (said[1] if said else None) == word


def test_lines_are_those_of_the_first_words() -> None:
    first, second, block = read('a\n b;\n"c\nd" e;\n\nf {\n g;\n}', "f")
    assert (first.line, second.line, block.line) == (1, 3, 6)
    assert block.block is not None
    assert [it.line for it in block.block] == [7]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a;\nb {\n c;\n", 2, 'the block of "b" has no "}"'),
        ("a;\n\n}\n", 3, 'unexpected "}"'),
        ("a\n'b", 2, "a word has no closing '"),
        ("a " + "x" * 5000 + ";", 1, "a word has more than 4096 characters"),
        ("a {" * 65, 1, "more than 64 levels"),
        ("http {\n init_by_lua_block {\n if {", 2, "has no"),
    ],
)
def test_an_error_says_where_and_what(text: str, line: int, reason: str) -> None:
    with pytest.raises(ReadingError) as caught:
        read(text, "f")
    assert (caught.value.line, reason in caught.value.reason) == (line, True)


def test_lua_is_no_configuration() -> None:
    text = 'a_by_lua_block { x = "}" --[[ } ]] --}\n y = [==[ } ]==] { } }\nb c;'
    lua, after = read(text, "f")
    assert (lua.block, after.name, after.line) == ((), "b", 3)
