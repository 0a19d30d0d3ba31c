"""Run a program under callgrind, and read how many instructions it has executed in user space."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 180.0
"""What a program may take to start under callgrind: some ten times what it takes alone, and the machine may be busy."""

_COMMAND_SECONDS = 60.0

# Names of files in the directory that a `Counter` works in.
_PROFILE = "callgrind.out"
_PIPES = "vgdb-pipe"


def find_valgrind() -> str:
    """Return the path of valgrind, to which callgrind belongs.

    Raises:
        BenchmarkError: valgrind, or the program that it is controlled with, isn't installed.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None or shutil.which("vgdb") is None:
        raise BenchmarkError(
            "valgrind, which counts the instructions, isn't on PATH; Debian and Ubuntu have it:"
            " apt-get install valgrind."
        )
    return valgrind


def callgrind_argv(valgrind: str, directory: Path, argv: list[str]) -> list[str]:
    """Return the command line that runs a program under callgrind, which counts nothing before it is told to.

    Args:
        valgrind: from `find_valgrind`.
        directory: where the profiles and the pipes of `Counter` are made.
        argv: of the program.
    """
    return [
        *(valgrind, "--tool=callgrind", "--instr-atstart=no"),
        *(f"--callgrind-out-file={directory / _PROFILE}", f"--log-file={directory / 'valgrind'}"),
        f"--vgdb-prefix={directory / _PIPES}",
        *argv,
    ]


class Counter:
    """Counts the instructions of one process that `callgrind_argv` has started.

    Children of the process are not counted, and neither is what the kernel does for it.

    Args:
        directory: the one that was given to `callgrind_argv`.
        pid: of the process; valgrind replaces itself by the program, so there is no other.
    """

    def __init__(self, directory: Path, pid: int) -> None:
        self._directory = directory
        self._pid = pid
        self._dumps = 0

    def begin(self) -> None:
        """Count from now on; the process is then slower by a further factor of ten."""
        self._command("instrumentation", "on")

    def zero(self) -> None:
        """Forget what has been counted."""
        self._command("zero")

    def read(self) -> int:
        """Return the instructions since `begin`, or since the last `zero` or `read`.

        Raises:
            BenchmarkError: the process doesn't answer or wrote no figure.
        """
        self._command("dump")
        self._dumps += 1
        profile = self._directory / f"{_PROFILE}.{self._dumps}"
        try:
            return parse_profile(profile.read_text(errors="replace"))
        finally:
            profile.unlink(missing_ok=True)

    def _command(self, *words: str) -> None:
        argv = ["vgdb", f"--pid={self._pid}", f"--vgdb-prefix={self._directory / _PIPES}", *words]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(
                f"the program under valgrind did not answer {' '.join(words)!r} within"
                f" {_COMMAND_SECONDS:g} s."
            ) from error
        if done.returncode != 0:
            raise BenchmarkError(
                f"vgdb failed with exit status {done.returncode}: {done.stderr.strip()}"
            )


def parse_profile(text: str) -> int:
    """Return the instructions in a profile.

    Source: "Callgrind Format Specification" of the valgrind manual: the line "totals:".

    Raises:
        BenchmarkError: there is no such line.
    """
    found = re.search(r"^totals: (\d+)\s*$", text, re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"there is no line of totals in callgrind's profile:\n{text[:400]}")
    return int(found[1])
