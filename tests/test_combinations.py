"""Each case of a test runs on one combination of event loop and socket, in turn, or on all when asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60.0

TESTS = """
import pytest

on_each_loop = pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
on_each_socket = pytest.mark.parametrize("family", ["tcp", "unix"])

@on_each_loop
@on_each_socket
@pytest.mark.parametrize("case", range(6))
def test_cases(case, family, loop):
    pass

@pytest.mark.each("loop")
@on_each_loop
@on_each_socket
def test_ways(family, loop):
    pass

def test_alone():
    pass

@pytest.mark.parametrize("name", ["tcp-like", "a-unixoid"])
def test_names(name):
    pass
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def collected(checkout: Path, *arguments: str, rotation: str = "0") -> list[str]:
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-q",
            "-p",
            "no:cacheprovider",
            *arguments,
        ],
        cwd=checkout,
        env={
            **os.environ,
            "UWSGIBRIDGE_TEST_ROTATION": rotation,
            "PYTEST_ADDOPTS": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # they take longer to load than this takes
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
    return [line for line in finished.stdout.splitlines() if "::" in line]


def test_each_case_has_one_combination_and_all_have_their_turn(checkout: Path) -> None:
    tests = [it for it in collected(checkout) if "test_cases" in it]
    cases = [it.partition("[")[2].removesuffix("]").partition("-")[::2] for it in tests]
    assert [case for case, _ in cases] == ["0", "1", "2", "3", "4", "5"]
    assert len({combination for _, combination in cases}) == 6


def test_another_rotation_takes_others(checkout: Path) -> None:
    one, other = (
        {it for it in collected(checkout, rotation=number) if "test_cases" in it}
        for number in ("0", "1")
    )
    assert len(one) == len(other) == 6
    assert not one & other


def test_each_value_of_a_parameter_that_a_test_names_runs(checkout: Path) -> None:
    tests = [it.partition("[")[2].removesuffix("]") for it in collected(checkout) if "_ways" in it]
    combinations = [it.split("-") for it in tests]
    assert sorted(loop for _, loop in combinations) == ["asyncio", "trio", "uvloop"]
    assert {family for family, _ in combinations} == {"tcp", "unix"}


def test_what_has_no_combinations_is_all_there(checkout: Path) -> None:
    others = [it for it in collected(checkout) if "test_alone" in it or "test_names" in it]
    assert len(others) == 3


def test_all_combinations_run_when_asked(checkout: Path) -> None:
    assert len(collected(checkout, "--all-combinations")) == 6 * 6 + 6 + 3


def test_a_test_that_is_named_runs(checkout: Path) -> None:
    everything = collected(checkout, "--all-combinations")
    names = [it for it in everything if "[3-" in it]
    assert len(names) == 6
    assert collected(checkout, *names) == names
