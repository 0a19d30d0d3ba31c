"""The whole count with a real bridge, and stand-ins for valgrind that run the program and make figures up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.errors import BenchmarkError
from benchmarks.instructions.__main__ import main
from benchmarks.instructions.scenarios import SCENARIOS, choose

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_SECONDS = 60.0

VALGRIND = """
import os, sys
argv = sys.argv[1:]
while argv[0].startswith("--"):
    argv.pop(0)
os.execv(argv[0], argv)
"""

# 1,000 instructions while it is idle and 100,000 more with each later dump.
VGDB = """
import pathlib, sys
directory = pathlib.Path(sys.argv[2].partition("=")[2]).parent
if sys.argv[-1] == "dump":
    counter = directory / "counter"
    number = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(number))
    totals = 1000 + 100_000 * (number - 1)
    (directory / f"callgrind.out.{number}").write_text(f"totals: {totals}\\n")
"""


def test_a_count_is_printed_and_nothing_is_left_behind(directory: Path) -> None:
    programs, temporary = directory / "bin", directory / "tmp"
    programs.mkdir()
    temporary.mkdir()
    for name, code in (("valgrind", VALGRIND), ("vgdb", VGDB)):
        (programs / name).write_text(f"#!{sys.executable}\n{code}")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.instructions", "--only", "wsgi-1-pure"),
            *("--requests", "4", "--repetitions", "1"),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TMPDIR": str(temporary),
        },
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("wsgi-1-pure")]
    assert len(rows) == 2
    assert "16 at once" in rows[0]
    assert "one at a time" in rows[1]
    # Sixteen requests, and 101,000 instructions of which hardly any went by the clock.
    assert int(rows[0].split()[-3].replace(",", "")) == pytest.approx(101_000 / 16, rel=0.2)
    assert int(rows[1].split()[-3].replace(",", "")) == pytest.approx(201_000 / 4, rel=0.2)
    assert list(temporary.iterdir()) == []


def test_a_scenario_that_is_not_there_is_refused_in_words() -> None:
    result = CliRunner().invoke(main, ["--only", "wsgi-2"])
    assert result.exit_code == 1
    assert "there is no 'wsgi-2'; there are wsgi-1, wsgi-8" in result.output


def test_without_the_accelerator_only_python_alone_is_counted() -> None:
    assert {scenario.is_pure for scenario in choose([], has_accelerator=False)} == {True}
    assert choose([], has_accelerator=True) == list(SCENARIOS)
    with pytest.raises(BenchmarkError, match="-pure can be counted"):
        choose(["wsgi-1", "trio-pure"], has_accelerator=False)


def test_python_alone_is_asked_for_by_the_environment() -> None:
    assert [it.environment for it in choose(["trio", "trio-pure"], has_accelerator=True)] == [
        {},
        {"UWSGIBRIDGE_PURE": "1"},
    ]


def test_the_list_has_every_scenario() -> None:
    result = CliRunner().invoke(main, ["--list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == [s.name for s in SCENARIOS]
