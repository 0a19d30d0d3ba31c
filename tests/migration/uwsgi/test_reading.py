"""The reader gives what uWSGI 2.0.31 makes of a configuration, as it was seen and recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.uwsgi_configurations import (
    CONFIGURATIONS,
    START,
    Configuration,
)
from tests.uwsgi_reading import pairs, read, said, write
from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.plan import Verdict
from uwsgibridge.migration.uwsgi import limits
from uwsgibridge.migration.uwsgi.reading import read_configuration

PATIENCE_SECONDS = 60.0


@pytest.mark.parametrize("case", CONFIGURATIONS, ids=lambda it: it.name)
def test_it_reads_as_uwsgi_does(case: Configuration, tmp_path: Path) -> None:
    write(tmp_path, case.files)
    if case.refusal:
        with pytest.raises(ConfigurationError) as refusal:
            read_configuration(case.arguments, case.environ, str(tmp_path))
        assert case.refusal in str(refusal.value)
        return
    reading = read_configuration(case.arguments, case.environ, str(tmp_path))
    # As --show-config prints it: a flag of the command line is true, and a name alone is empty.
    flags = {"the command line"}
    found = [
        (it.name, it.value if it.value is not None else "true" if str(it.place) in flags else "")
        for it in reading.settings
    ]
    placeholders = {"set-ph", "set-placeholder"} & {name for name, _ in found}
    expected = [(name, value.replace(START, str(tmp_path))) for name, value in case.expected]
    if placeholders:
        # What is a placeholder and no option is in uWSGI's list, and not in ours.
        own = {value.partition("=")[0] for name, value in expected if name in placeholders}
        expected = [it for it in expected if it[0] not in own]
    assert found == expected


def test_each_setting_has_its_place(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        "# 100%\nlost = 1\n\na = 50%\njoined\nb = 1\ninclude = b.ini\nc =\n",
        "--ini", "a.ini", "-p", "3",
        environ={"UWSGI_THREADS": "2"},
        b_ini="\n[uwsgi]\n\nd = 1\n",
    )  # fmt: skip
    assert [f"{it.place} {it.name}" for it in reading.settings] == [
        "the variable UWSGI_THREADS threads",
        "the command line ini",
        "a.ini:5 a",
        "a.ini:7 b",
        "a.ini:8 include",
        "b.ini:4 d",
        "a.ini:9 c",
        "the command line processes",
    ]


def test_a_name_alone_has_no_value(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, "a\nb =\n", "a.ini", "--master")) == [
        ("master", None),
        ("a", None),
        ("b", ""),
    ]


def test_what_declare_option_makes_comes_first(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        "processes = 1\ndeclare-option = mine=processes=$1;env=A$1=$2;unknown=1\nmine = 4 x\nmine = 5\n",
    )
    assert pairs(reading) == [
        ("processes", "4"),
        ("env", "A4=x"),
        ("processes", "5"),
        ("env", "A5=$2"),
        ("processes", "1"),
        ("declare-option", "mine=processes=$1;env=A$1=$2;unknown=1"),
        ("mine", "4 x"),
        ("mine", "5"),
    ]


def test_what_declare_option2_makes_comes_at_its_place(tmp_path: Path) -> None:
    reading = read(
        tmp_path, "declare-option2 = mine=processes=$1\na = 4\nmine = %(a)\nprocesses = 1\n"
    )
    assert pairs(reading)[2:] == [("mine", "4"), ("processes", "4"), ("processes", "1")]


def test_an_own_option_on_the_command_line(tmp_path: Path) -> None:
    arguments = (
        "--declare-option",
        "mine=processes=$1",
        "--mine",
        "4",
        "--declare-option",
        "m2=master=1",
        "--m2",
    )
    assert ("processes", "4") in pairs(read(tmp_path, "", *arguments))
    with pytest.raises(ConfigurationError, match="--m2 is a flag"):
        read(tmp_path, "", *arguments[:-1], "--m2=1")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("a = x$(B)\n", "a.ini:2: The variable B is not set, and uWSGI leaves $(B) as it is."),
        ("a = ${A}\n", "a.ini:2: uWSGI does not know ${A}, and leaves it as it is; a variable is $(A)."),
        ("listen = $(A)\n", "a.ini:2: uWSGI applies this before it replaces placeholders: $(A) stays as it is."),
        ("a = %(bsae)\n", "a.ini:2: There is no bsae: %(bsae) stays as it is."),
        ("a = 50%\nb\n",
         ("a.ini:2: The % at the end of the line takes the line's end with it, so that the next line is "
          "a part of this one; write %% for a %.")),
        ("a = p%40s\n",
         ("a.ini:2: uWSGI has a meaning of its own for % and what stands behind it, here for %40; write "
          "%% for a %.")),
        ("a = %z\n",
         ("a.ini:2: uWSGI has a meaning of its own for % and what stands behind it, here for %z; write %% "
          "for a %.")),
        ("if-env = A\na = 1\n", "a.ini:2: It has no end (endif), and so it is for all that is read after it."),
        ("if-env = B\nif-env = A\nendif\n",
         ("a.ini:2: A block begins within it (a.ini:3); uWSGI has none of that, and "
          "the first end ends this one.")),
    ],
)  # fmt: skip
def test_it_warns(text: str, warning: str, tmp_path: Path) -> None:
    assert said(read(tmp_path, text, environ={"A": "1"})) == [warning]


def test_it_does_not_warn_of_what_is_meant(tmp_path: Path) -> None:
    text = "log-format = %(method) ${X}\nx = %d %p %k %% %v\nset = y=$(A)\n# 100% of %z\nhttp-socket = 127.0.0.1:8000\n"
    assert said(read(tmp_path, text, environ={"A": "1"})) == []


def test_a_block_says_what_became_of_its_lines(tmp_path: Path) -> None:
    reading = read(
        tmp_path, "if-env = A\na = 1\nb = 1\nendif\nif-env = B\nc = 1\nendif\n", environ={"B": ""}
    )
    assert said(reading, Verdict.PASSED_OVER)[1:] == [
        "a.ini:2: It does not hold, and so these lines are left out: a.ini:3, a.ini:4.",
        "a.ini:6: It holds, and its lines are taken.",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("include = a.ini\n", "a.ini:2: 'a.ini' is read within itself"),
        ("include = b.ini\n", "b.ini:2: 'a.ini' is read within itself"),
        ("include = ./a.ini\n", "a.ini:2: './a.ini' is read within itself"),
        ("ini = :uwsgi\n", "is read within itself"),
        ("include = .\n", "a.ini:2: '.' does not end in one of"),
        ("ini = .\n", "a.ini:2: '.' can't be read: it is neither a file nor a pipe"),
        ("ini = /dev/zero\n", "it is neither a file nor a pipe"),
        ("ini =\n", "a.ini:2: a file's name is missing"),
        ("ini = exec://date\n", "what uWSGI gets from exec:// has to stand in one"),
        ("a = @(exec://date)\n", "what uWSGI gets from exec:// has to stand in one"),
        ("ini = c.ini\n", "'c.ini' is no text: it has a zero byte"),
        ("ini = large.ini\n", "'large.ini' is too large; 1048576 bytes"),
        ("a = x%(b)\nb = y%(a)\n", "a.ini:2: a gets too long as its placeholders are replaced"),
        ("a = @(loop.txt)\n", "a.ini:2: 'loop.txt' is one file too many"),
        ("a = 9223372036854775807\nb = %(a + 1)\n", "a.ini:3: b calculates a number that has more than 64 bits"),
        ("for-times = 99999999999\na = 1\nendfor\n", "a.ini:2: for-times = 99999999999 repeats its lines more than"),
        ("for-times = 9999\na = 1\nb = 1\nendfor\n", "a.ini:3: this is one setting too many; 10000 are read"),
        ("declare-option = m=m=1\nm = 1\n", "a.ini:3: m stands for itself, 16 levels deep"),
        ("declare-option = m=m=1;m=1\nm = 1\n", "a.ini:3: m stands for itself, 16 levels deep"),
        ("a = \xe9\n".encode("latin-1"), "has no section"),
        ("resolve = a=localhost\n", "a.ini:2: resolve is not read here; write the address itself"),
        ("if-hostname-match = (a+)+$\n", "write if-hostname = NAME"),
    ],
)  # fmt: skip
def test_what_is_hostile_or_broken_has_one_error(
    text: str | bytes, error: str, tmp_path: Path
) -> None:
    if isinstance(text, bytes):
        text, error = b"[uwsgi]\n" + text, "a.ini:2: 'a' has bytes that are no UTF-8"
    with pytest.raises(ConfigurationError) as refusal:
        read(
            tmp_path,
            text,
            b_ini="[uwsgi]\ninclude = a.ini\n",
            c_ini=b"[uwsgi]\na = \0\n",
            large_ini=b"[uwsgi]\n" + b"#" * limits.MOST_FILE_BYTES,
            loop_txt="x@(loop.txt)",
        )
    assert error in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_many_files_that_include_two_each(tmp_path: Path) -> None:
    for level in range(10):
        line = f"include = l{level + 1}.ini\n"
        (tmp_path / f"l{level}.ini").write_text(f"[uwsgi]\n{line}{line}")
    with pytest.raises(ConfigurationError, match="is one file too many; 200 are read"):
        read(tmp_path, "include = l0.ini\n", l10_ini="[uwsgi]\n")


def test_a_file_of_magic_that_becomes_huge(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="% makes more than"):
        read(tmp_path, "# " + "%p" * 300_000)


def test_an_error_is_one_line_that_a_terminal_bears(tmp_path: Path) -> None:
    name = "\x1b]0;title\x07" + "a" * 5000
    write(tmp_path, {"a.json": json.dumps({"uwsgi": {f"{name}\n": {}}})})
    with pytest.raises(ConfigurationError) as refusal:
        read_configuration(["a.json"], {}, str(tmp_path))
    message = str(refusal.value)
    assert message.startswith(r"a.json: \x1b]0;title\x07aaa")
    assert message.endswith(
        r"a\n is an object, which uWSGI leaves out; write a text, or take it out"
    )
    assert len(message) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "for = " + "x " * 400_000 + "\na = 1\n",
        "for = " + "x" * 100_000 + "\n" + ("a = " + "%(_)" * 20 + "\n") * 9000,
        "declare-option = m=" + ";".join(["a=$9"] * 9000) + "\nm = " + "x " * 60_000 + "\n",
        "b = %(c)%(c)\nc = x%(d)%(d)\nd = x%(e)%(e)\ne = x%(b)%(b)\n",
        "a = " + "$(B)" * 32_000 + "\n",
        ("a = " + "$(" + "(" * 60_000 + ")" * 60_001 + "\n") * 8,
    ],
    ids=["members", "substitutions", "arguments", "growth", "placeholders", "brackets"],
)
def test_hostile_work_has_a_bound(text: str, tmp_path: Path) -> None:
    before = time.process_time()
    with suppress(ConfigurationError):
        read(tmp_path, text)
    # It takes two seconds at the most, and without the bounds hours, or all memory.
    assert time.process_time() - before < PATIENCE_SECONDS


def test_a_latin_comment_is_no_fault(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, b"[uwsgi]\n# caf\xe9\na = \xc3\xa9\n")) == [("a", "é")]


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "b.ini").write_text("[uwsgi]\n")
    (tmp_path / "b.ini").chmod(0)
    with pytest.raises(
        ConfigurationError, match=r"a\.ini:2: 'b\.ini' can't be read: Permission denied"
    ):
        read(tmp_path, "ini = b.ini\n")


def test_a_link_has_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "target.ini").write_text("[uwsgi]\na = %n %d\n")
    (tmp_path / "link.ini").symlink_to("real/target.ini")
    assert pairs(read(tmp_path, "", "--ini", "link.ini")) == [("a", f"link {tmp_path}/")]


def test_a_pipe_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ini")
    writer = threading.Thread(target=(tmp_path / "pipe.ini").write_text, args=["[uwsgi]\na = 1\n"])
    writer.start()
    try:
        assert pairs(read(tmp_path, "", "--ini", "pipe.ini")) == [("a", "1")]
    finally:
        writer.join(PATIENCE_SECONDS)


def test_a_pipe_that_nobody_writes_to_has_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uwsgibridge.migration.uwsgi.files.PIPE_SECONDS", 0.05)
    os.mkfifo(tmp_path / "pipe.ini")
    with pytest.raises(ConfigurationError, match=r"nothing more came within 0\.05 seconds"):
        read(tmp_path, "", "--ini", "pipe.ini")


def test_standard_input_is_read(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from uwsgibridge.migration.uwsgi.reading import read_configuration\n"
        "print(read_configuration(['--ini', '-'], {}, sys.argv[1]).settings[-1])\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        input="[uwsgi]\na = 1\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert finished.stdout == "a = 1\n", finished.stderr


def test_a_usual_file_costs_little_to_read(tmp_path: Path) -> None:
    """No library is loaded for it: neither XML's, nor JSON's, nor one for YAML."""
    (tmp_path / "a.ini").write_text("[uwsgi]\nmodule = a:b\nprocesses = %k\n")
    script = (
        "import sys\n"
        "from uwsgibridge.migration.uwsgi.reading import read_configuration\n"
        "read_configuration(['--ini', 'a.ini'], {}, sys.argv[1])\n"
        "print(' '.join(sys.modules))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    loaded = finished.stdout.split()
    assert "uwsgibridge.migration.uwsgi.formats.ini_text" in loaded
    assert not {"json", "xml.parsers.expat", "pyexpat", "yaml", "difflib", "click", "trio"} & set(
        loaded
    )
