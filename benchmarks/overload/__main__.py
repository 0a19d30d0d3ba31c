"""The command line: `python -m benchmarks.overload --help`."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from benchmarks.apps.stalling import SERVICE_SECONDS, STALL_VARIABLE
from benchmarks.environment import describe
from benchmarks.errors import BenchmarkError
from benchmarks.launching import free_port, server_environment
from benchmarks.load import find_wrk
from benchmarks.nginx_config import READY_TEXT, Upstream, find_nginx, nginx_argv, render
from benchmarks.options import parse_names
from benchmarks.overload.chart import line_chart
from benchmarks.overload.open_loop import Load, Outcome, drive, good_per_second, most_late
from benchmarks.placement import choose_placement
from benchmarks.processes import running
from benchmarks.server_table import SERVERS, THREADS

if TYPE_CHECKING:
    from benchmarks.servers import Server

_ROOT: Final = Path(__file__).resolve().parents[2]

_BACKLOG: Final = 2048
"""What each server is told; on Linux the kernel caps it at net.core.somaxconn."""

CAPACITY: Final = THREADS / SERVICE_SECONDS
"""Requests a second that a server can do."""

_MOST_LATE_SECONDS: Final = 0.5
"""Where requests were sent later than that, the machine was too busy for the load."""

_WARM_SECONDS: Final = 5
"""How long the load comes before the stall."""


@dataclass(frozen=True, slots=True)
class Row:
    """A server of `SERVERS`, with further options; a line of the chart."""

    name: str
    server: str
    options: tuple[str, ...] = ()


# What waits at the end is of no interest.
_STOP: Final = ("--graceful-timeout-seconds", "1")

ROWS: Final = (
    Row("bridge-max-queue-1", "bridge-wsgi", ("--max-queue-seconds", "1", *_STOP)),
    Row("bridge", "bridge-wsgi", _STOP),
    Row("bridge-run-abandoned", "bridge-wsgi", ("--run-abandoned", *_STOP)),
    Row("uwsgi-threads", "uwsgi-threads"),
    Row("gunicorn-gthread", "gunicorn-gthread", ("--graceful-timeout", "1")),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What is done to each server: a stall of so many seconds, and so many after it."""

    stall_seconds: int
    after_seconds: int
    rate: float
    patience_seconds: float

    @property
    def stall_end(self) -> int:
        """The second in which the application goes on."""
        return _WARM_SECONDS + self.stall_seconds

    @property
    def seconds(self) -> int:
        """How long the load comes."""
        return self.stall_end + self.after_seconds


@click.command(
    help="Have an application stall under an open-loop load, and count the good answers of each second."
)
@click.option("--only", metavar="NAME,...", default="", callback=parse_names, help="These alone.")
@click.option("--stall", "stall_seconds", type=click.IntRange(1), default=10, show_default=True)
@click.option("--after", "after_seconds", type=click.IntRange(5), default=45, show_default=True)
@click.option(
    "--rate", type=float, default=2 * CAPACITY, show_default=True, help="Requests a second."
)
@click.option("--patience", "patience_seconds", type=float, default=2.0, show_default=True)
@click.option(
    "--page",
    metavar="NAME",
    help="Write benchmarks/results/NAME.json and NAME.svg.",
)
def main(
    only: tuple[str, ...],
    stall_seconds: int,
    after_seconds: int,
    rate: float,
    patience_seconds: float,
    page: str | None,
) -> None:
    """Run, print and write."""
    try:
        rows = [it for it in ROWS if not only or it.name in only]
        run = Run(stall_seconds, after_seconds, rate, patience_seconds)
        found = {row.name: _measure(row, run) for row in rows}
        for name, outcomes in found.items():
            click.echo(_line(name, outcomes, run))
        if page is not None:
            _write(page, found, run, rows)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None


def _server_of(row: Row) -> Server:
    return next(it for it in SERVERS if it.name == row.server)


def _measure(row: Row, run: Run) -> list[Outcome]:
    server = _server_of(row)
    placement = choose_placement(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="overload-") as directory:
        endpoint = f"unix:{directory}/app.sock"
        port = free_port()
        Path(directory, "nginx.conf").write_text(
            render(
                port,
                [Upstream(server.name, server.protocol, endpoint)],
                connections=1000,
                tells_time=True,
            )
        )
        stall_file = Path(directory, "stall")
        argv = server.argv("benchmarks.apps.stalling:wsgi", endpoint, _BACKLOG, 1)
        environment = {
            **server_environment(os.environ),
            STALL_VARIABLE: str(stall_file),
        }
        with (
            running(
                row.name,
                [*argv, *row.options],
                cwd=_ROOT,
                ready_text=server.ready_text,
                cpus=placement.server,
                env=environment,
            ),
            running(
                "nginx",
                nginx_argv(find_nginx(), Path(directory)),
                cwd=Path(directory),
                ready_text=READY_TEXT,
                cpus=placement.load,
            ),
        ):
            begin = time.monotonic()
            stall = begin + _WARM_SECONDS
            stall_file.write_text(f"{stall} {stall + run.stall_seconds}")
            load = Load(port, server.name, run.rate, run.seconds, run.patience_seconds)
            return drive(load, begin)


def recovered_after(outcomes: list[Outcome], run: Run) -> float | None:
    """Tell how long after the stall the first second began in which the server did 8 of 10 of what it can; None for never."""
    per_second = good_per_second(outcomes, run.stall_end, run.seconds)
    good = [second for second, count in enumerate(per_second) if count >= 0.8 * CAPACITY]
    return good[0] if good else None


def _line(name: str, outcomes: list[Outcome], run: Run) -> str:
    per_second = good_per_second(outcomes, run.stall_end, run.seconds)
    recovered = recovered_after(outcomes, run)
    latencies = sorted(
        it.ended_at - it.sent_at
        for it in outcomes
        if it.status == 200 and it.ended_at >= run.stall_end
    )
    median = f"{latencies[len(latencies) // 2]:.2f} s" if latencies else "-"
    late = most_late(outcomes)
    refused = sum(it.status == 503 for it in outcomes)
    unanswered = sum(it.status not in {200, 503} for it in outcomes)
    return (
        f"{name}: {sum(per_second) / len(per_second):.0f} good answers a second after the stall, median {median}; "
        f"back after {'never' if recovered is None else f'{recovered} s'}; {refused} refused, {unanswered} unanswered"
        + (f"; NOT VALID: the load came {late:.1f} s late" if late > _MOST_LATE_SECONDS else "")
    )


def _write(page: str, found: dict[str, list[Outcome]], run: Run, rows: list[Row]) -> None:
    servers = list({row.server: _server_of(row) for row in rows}.values())
    results = _ROOT / "benchmarks/results"
    lines = {name: good_per_second(it, 0, run.seconds) for name, it in found.items()}
    figures = {
        "environment": describe(servers, (), nginx=find_nginx(), wrk=find_wrk()),
        "run": {**asdict(run), "capacity": CAPACITY, "warm_seconds": _WARM_SECONDS},
        "good answers in each second": lines,
        "words": {name: _line(name, it, run) for name, it in found.items()},
    }
    (results / f"{page}.json").write_text(json.dumps(figures, indent=1) + "\n")
    title = (
        f"Good answers a second: {run.rate:.0f} requests a second come, {CAPACITY:.0f} can be done"
    )
    chart = line_chart(title, lines, shaded=(_WARM_SECONDS, run.stall_end), words="stall")
    (results / f"{page}.svg").write_text(chart)


if __name__ == "__main__":
    main()
