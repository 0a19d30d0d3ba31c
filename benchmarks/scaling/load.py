"""Compile and run the load of this benchmark."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.errors import BenchmarkError

_SOURCE: Final = Path(__file__).with_name("load.c")
_COMPILE_SECONDS: Final = 60.0
_SPARE_SECONDS: Final = 60.0
"""How much longer than asked for a load may take: it waits for the answers that are under way."""


@dataclass(frozen=True, slots=True)
class Load:
    """How long a load goes on, and how many requests are under way at a time."""

    connections: int
    milliseconds: int


def compile_load(directory: Path) -> Path:
    """Compile the load; give the path of the program.

    Raises:
        BenchmarkError: there is no compiler, or it has failed.
    """
    program = directory / "load"
    compiler = os.environ.get("CC", "cc")
    try:
        done = subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-Werror", str(_SOURCE), "-o", str(program)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMPILE_SECONDS,
        )
    except OSError as error:
        raise BenchmarkError(
            f"{compiler}, which compiles the load, can't be run: {error}. Set CC to a C compiler."
        ) from error
    if done.returncode:
        raise BenchmarkError(f"{compiler} does not compile {_SOURCE.name}:\n{done.stderr}")
    return program


def put_load(program: Path, socket: Path, packet: bytes, load: Load) -> tuple[int, float]:
    """Put the load on the server at a unix socket.

    Returns:
        How many answers there were, and how many seconds that took.

    Raises:
        BenchmarkError: an answer is no 200, or does not come.
    """
    try:
        done = subprocess.run(
            [str(program), str(socket), str(load.connections), str(load.milliseconds)],
            input=packet,
            capture_output=True,
            check=False,
            timeout=load.milliseconds / 1000 + _SPARE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"the load on {socket.name} does not end.") from error
    if done.returncode:
        raise BenchmarkError(f"the load on {socket.name} failed: {done.stderr.decode().strip()}.")
    answers, nanoseconds = map(int, done.stdout.split())
    return answers, nanoseconds / 1e9
