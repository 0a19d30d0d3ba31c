"""Whatever is in the files: they are read, or there is one `ConfigurationError`, in bounded time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.uwsgi.reading import read_configuration

# What has a meaning to the reader, so that chance finds nested and broken forms of it.
PIECES = (
    "[uwsgi]\n", "[x]\n", "[", "]", "\n", "\r\n", " ", "\t", "=", " = ", ":", ": ", "- ", "#", ";", "'", '"', "%", "%%",
    "%(", "%(a", "%(_)", "$(", "$(A)", "$(A)$(", "@(", "@(a.ini)", "@(b.txt)", ")", "(", "a = ", "b = ", "a", "%d", "%p",
    "%n", "\n%", "include = ", "ini = ", "inherit = ", "a.ini", "b.ini", ":x", "a.yaml", "a.xml", "a.json", "-", "\n\n",
    "if-env = A\n", "if-env = Z\n", "if-opt = a\n", "if-not-opt = a=1\n", "if-file = a.ini\n", "endif\n", "endfor =\n",
    "for = 1 2 3\n", "for-times = 3\n", "for-glob = *\n", "for-readline = b.txt\n", "for-times = 100000\n",
    "set = a=", "set-ph = c=", "declare-option = d=a=$1;include=$2;d=$1\n", "declare-option2 = e=e=1\n", "d = ", "e = ",
    "1", "999999999999999999999", " + ", " * ", " ++", "strict = true\n", "uwsgi:\n", "  ", "uwsgi", "<uwsgi>", "</uwsgi>",
    "<a>", "</a>", "<a/>", "&amp;", "<![CDATA[", "]]>", "<!DOCTYPE", '{"uwsgi": {', "}", ",", "[1, null]", "true",
    "\ufeff", "\0", "é", "\x1b", "\x85", "\u2028",
)  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join).map(str.encode)
contents = st.one_of(texts, texts.map(lambda it: b"[uwsgi]\n" + it), st.binary(max_size=200))
words = st.sampled_from(
    ("--ini", "a.ini", "a.ini:x", "a.yaml", "--yaml", "a.xml", "a.json", "b.ini", "--", "-", "-p", "--set", "a=1", "--master",
     "-M", "-C", "--if-env", "A", "--endif", "--for", "1 2", "--include", "[t]", "", "--ini=a.ini:x", "--xml", ":x")
)  # fmt: skip


@pytest.fixture(autouse=True)
def both_ways() -> None:
    """Take the place of the folder's fixture: the reader has no part in C."""


def read_all(files: dict[str, bytes], arguments: list[str], environ: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            (Path(directory) / name).write_bytes(content)
        try:
            reading = read_configuration(arguments, environ, directory)
        except ConfigurationError as error:
            message = str(error)
            assert message
            message.encode("utf-8", "surrogateescape")
            return
        for setting in reading.settings:
            str(setting).encode()
        assert {id(it.setting) for it in reading.findings} <= {id(it) for it in reading.settings}


@given(contents, contents, contents)
@example(b"[uwsgi]\na = %(\x85 \xff)", b"", b"")
@example(b"[uwsgi]\ndeclare-option = d=a=$1;include=$2;d=$1\nd = 1 2", b"", b"")
def test_any_ini(first: bytes, second: bytes, text: bytes) -> None:
    files = {"a.ini": first, "b.ini": second, "b.txt": text}
    read_all(files, ["--ini", "a.ini"], {"A": "%(a)$(A)"})


@given(contents)
@example(b"uwsgi:\n  a: 'x\n")
@example(b"uwsgi:\n  : x\n")
@example(b"uwsgi:\n  - x\n")
@example(b"uwsgi:\n- x\n")
def test_any_yaml(content: bytes) -> None:
    read_all({"a.yaml": content}, ["a.yaml"], {})
    read_all({"a.yaml": b"uwsgi:\n  a: 1\n  " + content}, ["a.yaml"], {})


@given(contents)
def test_any_xml(content: bytes) -> None:
    read_all({"a.xml": content}, ["a.xml"], {})
    read_all({"a.xml": b"<uwsgi>" + content + b"</uwsgi>"}, ["a.xml:x"], {})


@given(
    contents,
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()), st.lists
    ),
)
def test_any_json(content: bytes, value: object) -> None:
    import json

    read_all({"a.json": content}, ["a.json"], {})
    read_all({"a.json": json.dumps({"uwsgi": {"a": value}}).encode()}, ["a.json"], {})


@given(
    st.lists(st.one_of(words, st.text().filter(lambda it: "\0" not in it)), max_size=8), contents
)
def test_any_command_line(arguments: list[str], content: bytes) -> None:
    read_all(
        {"a.ini": content},
        [it for it in arguments if it != "-"],
        {"UWSGI_INI": "a.ini", "UWSGI_": "x", "UWSGI_SET": "a=2"} if len(arguments) % 2 else {},
    )


@given(st.integers(min_value=1, max_value=400))
def test_deep_brackets_end_in_time(depth: int) -> None:
    value = b"x$(" * depth + b"(" * depth + b"A" + b")" * (2 * depth)
    read_all(
        {"a.ini": b"[uwsgi]\n" + b"a = " + value + b"\n"}, ["a.ini"], {"A": os.fsdecode(value)}
    )
