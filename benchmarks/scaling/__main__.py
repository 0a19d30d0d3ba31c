"""The command line: `python -m benchmarks.scaling --help`."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import click

from benchmarks.cpu_time import cpu_nanoseconds
from benchmarks.environment import machine
from benchmarks.errors import BenchmarkError
from benchmarks.interrupting import signals_end_it
from benchmarks.launching import server_environment
from benchmarks.options import parse_numbers
from benchmarks.packet import make_packet
from benchmarks.processes import running
from benchmarks.scaling.load import Load, compile_load, put_load
from uwsgibridge.fast import accelerator_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from benchmarks.processes import Process

_ROOT: Final = Path(__file__).resolve().parents[2]
_RESULTS: Final = _ROOT / "benchmarks" / "results"
_READY_TEXT: Final = '"listening"'


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked for, and how many requests are under way at a time."""

    title: str
    path: str
    connections: int
    method: str = "GET"


# Of the short ones, so many that the load, which is one thread, always finds answers.
WORKLOADS: Final = (
    Workload("12 bytes", "/", 512),
    Workload("to HEAD, which Python answers", "/", 512, "HEAD"),
    Workload("20 ms of computing", "/compute/20", 32),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """What a turn has shown."""

    answers_per_second: float
    cpu_microseconds: float  # of the server, an answer


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: medians over the rounds; the ratio is taken within each round."""

    workload: Workload
    threads: int
    answers_per_second: float
    over_first: tuple[float, float, float]  # median, lowest, highest
    cpu_microseconds: float


@click.command(
    help="Measure one worker of this Python with more and more threads, asked by the uwsgi protocol itself."
)
@click.option(
    "--threads",
    metavar="N,...",
    default="1,2,8",
    show_default=True,
    callback=parse_numbers,
    help="Numbers of threads; ratios are to the first.",
)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--milliseconds", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--page", metavar="NAME", help="Write benchmarks/results/NAME.md.")
def main(threads: tuple[int, ...], rounds: int, milliseconds: int, page: str | None) -> None:
    """Run, print and write."""
    try:
        with signals_end_it():
            text = _page(measure(threads, rounds, milliseconds))
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    click.echo(text)
    if page is not None:
        file = _RESULTS / f"{page}.md"
        file.write_text(f"# Benchmark {page}\n\n{text}\n")
        click.echo(f"written: {file}")


def measure(threads: Sequence[int], rounds: int, milliseconds: int) -> list[Line]:
    """Have one server for each number of threads; all stay up, and each has a turn in each round.

    Args:
        threads: what the servers have; the first is what the others are compared with.
        rounds: how many turns each server has with each workload.
        milliseconds: how long a turn takes.

    Raises:
        BenchmarkError: a server does not start, or fails under load.
    """
    figures: dict[tuple[Workload, int], list[Figure]] = {}
    with tempfile.TemporaryDirectory(prefix="scaling-") as name, ExitStack() as stack:
        directory = Path(name)
        program = compile_load(directory)
        servers = {it: stack.enter_context(_server(it, _socket(directory, it))) for it in threads}
        for _ in range(rounds):
            for workload in WORKLOADS:
                packet = make_packet(workload.path, workload.method)
                load = Load(workload.connections, milliseconds)
                for number, server in servers.items():
                    before = cpu_nanoseconds(server.session)
                    answers, seconds = put_load(program, _socket(directory, number), packet, load)
                    server.require_alive()
                    used = cpu_nanoseconds(server.session) - before
                    figures.setdefault((workload, number), []).append(
                        Figure(answers / seconds, used / answers / 1000)
                    )
    return [
        _line(workload, number, found, figures[workload, threads[0]])
        for (workload, number), found in figures.items()
    ]


def _socket(directory: Path, threads: int) -> Path:
    return directory / f"{threads}.sock"


def _server(threads: int, socket: Path) -> AbstractContextManager[Process]:
    argv = [
        *(sys.executable, "-m", "uwsgibridge", "serve", "benchmarks.apps.plain:wsgi"),
        *("--bind", f"unix:{socket}", "--interface", "wsgi", "--workers", "0"),
        *("--threads", str(threads), "--log-format", "json", "--no-access-log"),
    ]
    return running(
        f"--threads {threads}",
        argv,
        cwd=_ROOT,
        ready_text=_READY_TEXT,
        cpus=os.sched_getaffinity(0),
        env=server_environment(os.environ),
    )


def _line(
    workload: Workload, threads: int, found: Sequence[Figure], first: Sequence[Figure]
) -> Line:
    ratios = [
        own.answers_per_second / other.answers_per_second
        for own, other in zip(found, first, strict=True)
    ]
    return Line(
        workload,
        threads,
        median(it.answers_per_second for it in found),
        (median(ratios), min(ratios), max(ratios)),
        median(it.cpu_microseconds for it in found),
    )


def _page(lines: Sequence[Line]) -> str:
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    rows = [
        "One worker (`--workers 0`). The load is one thread on the same processors, without Nginx.",
        "",
        "| | |",
        "|---|---|",
        f"| machine | {machine()} |",
        f"| Python | {sys.version.split()[0]}, {'with' if has_lock else 'without'} the GIL |",
        f"| accelerator | {accelerator_state} |",
        "",
        "| answer | at a time | threads | answers/s | over the first | CPU us of the server |",
        "|---|---|---|---|---|---|",
    ]
    for it in lines:
        ratio, lowest, highest = it.over_first
        rows.append(
            f"| {it.workload.title} | {it.workload.connections} | {it.threads} | {it.answers_per_second:,.0f}"
            f" | {ratio:.2f} ({lowest:.2f} to {highest:.2f}) | {it.cpu_microseconds:,.1f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.scaling")
