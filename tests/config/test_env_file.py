"""Files of variables: what Docker and systemd read alike, and one sentence for what they read differently."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge.config.env_file import check_variable, environment_changes, read_env_file
from uwsgibridge.errors import SettingsError


def read(directory: Path, content: bytes) -> dict[str, str]:
    (directory / "app.env").write_bytes(content)
    return read_env_file(str(directory / "app.env"))


@pytest.mark.parametrize(
    ("content", "variables"),
    [
        (b"", {}),
        (b"A=b", {"A": "b"}),
        (b"A=b\n", {"A": "b"}),
        (b"A=b\r\nC=d\r\n", {"A": "b", "C": "d"}),
        (b"\n \n\t\n# text\n   # = \" '\nA=b", {"A": "b"}),
        (b"  A=b", {"A": "b"}),
        (b"A=", {"A": ""}),
        (b"A=b=c", {"A": "b=c"}),
        (b"A=b # c", {"A": "b # c"}),
        (b"A=#b", {"A": "#b"}),
        (b"A=b c", {"A": "b c"}),
        (b"A=b\tc", {"A": "b\tc"}),
        (b"A=$B ${C} $(d) `e`", {"A": "$B ${C} $(d) `e`"}),
        (b'A=it\'s "so"', {"A": 'it\'s "so"'}),
        (b"_a1=b", {"_a1": "b"}),
        (b"A=1\nA=2", {"A": "2"}),
        ("A=bü €".encode(), {"A": "bü €"}),
        (b"A=" + b"b" * 65_000, {"A": "b" * 65_000}),
    ],
    ids=lambda it: repr(it)[:30],
)
def test_what_both_read_alike(tmp_path: Path, content: bytes, variables: dict[str, str]) -> None:
    assert read(tmp_path, content) == variables


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'A="secret"', "systemd removes the quotes around the value of A, and Docker keeps them"),
        (b"A='secret'", "write --env A=... in its place"),
        (b"A= secret", "systemd removes the spaces around the value of A"),
        (b"A=secret ", "leave them out"),
        (b"A=secret\t", "spaces"),
        (b"A=sec\\ret", "systemd removes backslashes from the value of A"),
        (b"# secret\\", "swallows the next line in systemd before version 254"),
        (b";A=secret", "begin a comment with #"),
        (b"secret", "it is not of the form NAME=VALUE"),
        (b"export A=secret", 'leave "export" out'),
        (b"A =secret", "no name of a variable"),
        (b"A-B=secret", "no name of a variable"),
        (b"1A=secret", "no name of a variable"),
        ("Ä=secret".encode(), "no name of a variable"),
        (b"=secret", "no name of a variable"),
        (b"A=sec\x00ret", "control character"),
        (b"A=sec\x1bret", "control character"),
        (b"A=sec\rret", "control character"),
        (b"A=sec\xffret", "it is not UTF-8"),
        (b"\xef\xbb\xbfA=secret", "byte order mark"),
        (b"A=secret" + b"b" * 65_535, "over 65535 characters"),
    ],
    ids=lambda it: repr(it)[:30],
)
def test_what_they_read_differently_is_refused_with_its_line(
    tmp_path: Path, line: bytes, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, line if line.startswith(b"\xef") else b"B=c\n" + line)
    number = 1 if line.startswith(b"\xef") else 2
    assert str(caught.value).startswith(f"--env-file {tmp_path}/app.env, line {number}: ")
    assert said in str(caught.value)
    # What stands in such a file may be a password.
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^--env-file .*missing: No such file or directory$"):
        read_env_file(str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"^--env-file .*: Is a directory$"):
        read_env_file(str(tmp_path))
    with pytest.raises(SettingsError, match=r"^--env-file /dev/zero: it has over 1048576 bytes"):
        read_env_file("/dev/zero")
    with pytest.raises(SettingsError, match=r"^--env-file "):
        read_env_file("a\0b")


@given(st.binary(max_size=60))
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    try:
        found = read(tmp_path_factory.getbasetemp(), content)
    except SettingsError:
        return
    assert all(
        name and "=" not in name and "\0" not in name + value for name, value in found.items()
    )


def test_the_order_of_what_counts(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("A=1\nB=1\nC=1\nD=1\n")
    (tmp_path / "two").write_text("B=2\nC=2\n")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    changes = environment_changes((one, two), ("C=3", "D", "E=x=y", "F="))
    assert changes == {
        "A": (f"--env-file {one}", "1"),
        "B": (f"--env-file {two}", "2"),
        "C": ("--env", "3"),
        "D": ("--env", None),
        "E": ("--env", "x=y"),
        "F": ("--env", ""),
    }


@pytest.mark.parametrize("text", ["A=b", "A", "A=", "B =x", "a.b=c", "A=\n"])
def test_variables_are_taken(text: str) -> None:
    check_variable("--env", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--env names no variable"),
        ("=secret", "--env names no variable"),
        ("A=sec\0ret", "--env 'A' has a null character"),
        ("A=secret" + "x" * 65_535, "--env A has over 65535 bytes"),
    ],
    ids=lambda it: it[:20],
)
def test_variables_are_refused_without_their_value(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_variable("--env", text)
    assert str(caught.value).startswith(said)
    assert "secret" not in str(caught.value)


def test_a_pipe_is_refused_as_it_could_not_be_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match="pipe: it is a pipe, which can be read only once"):
        read_env_file(str(tmp_path / "pipe"))
