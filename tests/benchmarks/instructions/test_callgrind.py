"""Running a program under callgrind, and reading its counts: a stand-in for vgdb writes the profiles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.instructions.callgrind import Counter, find_valgrind, parse_profile

PROFILE = """\
# callgrind format
version: 1
events: Ir
summary: 4711
fn=(1) main
3 12

totals: 4712
"""


def install(directory: Path, name: str, code: str) -> None:
    (directory / name).write_text(f"#!{sys.executable}\n{code}")
    (directory / name).chmod(0o755)


def test_the_totals_of_a_profile_are_read() -> None:
    assert parse_profile(PROFILE) == 4712


def test_a_profile_without_totals_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="no line of totals"):
        parse_profile("version: 1\n")


@pytest.mark.parametrize("installed", [[], ["valgrind"], ["vgdb"]])
def test_a_missing_valgrind_is_told_with_the_package_that_has_it(
    installed: list[str], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in installed:
        install(directory, name, "")
    monkeypatch.setenv("PATH", str(directory))
    with pytest.raises(BenchmarkError, match="apt-get install valgrind"):
        find_valgrind()


def test_each_reading_is_of_a_dump_of_its_own(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        directory,
        "vgdb",
        f"""
import pathlib, sys
directory = pathlib.Path({str(directory)!r})
asked = directory / "asked"
asked.write_text((asked.read_text() if asked.exists() else "") + " ".join(sys.argv[1:]) + "\\n")
if sys.argv[-1] == "dump":
    number = asked.read_text().count(" dump\\n")
    (directory / f"callgrind.out.{{number}}").write_text(f"totals: {{number * 100}}\\n")
""",
    )
    monkeypatch.setenv("PATH", str(directory))
    counter = Counter(directory, 1234)
    counter.begin()
    counter.zero()
    assert [counter.read(), counter.read()] == [100, 200]
    commands = [
        line.split(" ", 2)[2] for line in (directory / "asked").read_text().splitlines() if line
    ]
    assert commands == ["instrumentation on", "zero", "dump", "dump"]
    assert "--pid=1234" in (directory / "asked").read_text()


def test_a_process_that_can_not_be_asked_is_an_error_with_the_reason(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(directory, "vgdb", "raise SystemExit('no such process')")
    monkeypatch.setenv("PATH", str(directory))
    with pytest.raises(BenchmarkError, match="exit status 1: no such process"):
        Counter(directory, 1234).zero()
