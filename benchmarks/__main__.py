"""The command line of the benchmark: `python -m benchmarks --help`."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import click

from benchmarks.environment import describe, listen_backlog
from benchmarks.errors import BenchmarkError
from benchmarks.interrupting import signals_end_it
from benchmarks.launching import Bench, free_port
from benchmarks.load import find_wrk
from benchmarks.measuring import Pace, measure
from benchmarks.nginx_config import READY_TEXT, Upstream, find_nginx, nginx_argv, render
from benchmarks.options import parse_names, parse_numbers
from benchmarks.page import write_page
from benchmarks.placement import choose_placement
from benchmarks.processes import running
from benchmarks.server_table import PAIRS, SERVERS
from benchmarks.servers import (
    choose,
    missing_packages,
    pairs_with_before,
    pairs_with_pure,
    require_installed,
    with_before,
    with_pure,
)
from benchmarks.spreading import find_strace, over_workers
from benchmarks.summary import compare, summarise
from benchmarks.table import format_results, format_table
from benchmarks.workloads import WORKLOADS, Workload, choose_workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measuring import Run
    from benchmarks.servers import Server
    from benchmarks.workloads import Trial

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = _ROOT / "benchmarks" / "results"

# sun_path of unix(7) without its final NUL.
_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    workloads: tuple[str, ...]
    sockets: Literal["unix", "tcp"]
    pace: Pace
    before: str | None


@click.command(
    help="Run the bridge and its peers side by side behind one Nginx, and print what a request costs each."
)
@click.option(
    "--workloads",
    metavar="WORKLOAD,...",
    default="hello",
    show_default=True,
    callback=parse_names,
    help="What the servers do; the names are in --list, and all is all of them.",
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Length of each turn.",
)
@click.option(
    "--warm-up-seconds",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Load on each server before the first round of a workload.",
)
@click.option(
    "--connections",
    metavar="N,...",
    default="",
    callback=parse_numbers,
    help="Concurrent connections, in place of what each workload of requests has: 64, and 1 and 512 for hello.",
)
@click.option(
    "--only",
    metavar="SERVER,...",
    default="",
    callback=parse_names,
    help="These servers alone; the names are in --list.",
)
@click.option(
    "--sockets",
    type=click.Choice(["unix", "tcp"]),
    default="unix",
    show_default=True,
    help="Between Nginx and the servers.",
)
@click.option(
    "--before",
    metavar="DIRECTORY",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    help="Another checkout of the project: its bridge is run beside this one.",
)
@click.option(
    "--pure",
    is_flag=True,
    help="Also run each server of the bridge without its accelerator.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.File("w", lazy=False),
    help="Also write everything, single runs included, to a file.",
)
@click.option(
    "--page",
    metavar="NAME",
    help="Also write a page with plots, benchmarks/results/NAME.md.",
)
@click.option(
    "--list", "list_all", is_flag=True, help="List the workloads and the servers, and exit."
)
def main(
    workloads: tuple[str, ...],
    rounds: int,
    seconds: int,
    warm_up_seconds: int,
    connections: tuple[int, ...],
    only: tuple[str, ...],
    sockets: Literal["unix", "tcp"],
    before: str | None,
    pure: bool,
    json_file: TextIO | None,
    page: str | None,
    list_all: bool,
) -> None:
    """Do what the command line asks for; the exit status is 1 where a server of the bridge has failed."""
    if list_all:
        click.echo(_listing())
        return
    pace = Pace(rounds, seconds, warm_up_seconds, connections)
    options = Options(workloads, sockets, pace, before)
    try:
        servers = choose(SERVERS, only)
        if pure:
            servers = with_pure(servers)
        if before:
            servers = with_before(servers, Path(before))
        has_failed = _measure_and_report(
            options, choose_workloads(workloads), servers, json_file, page
        )
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    if has_failed:
        sys.exit(1)


def _listing() -> str:
    workloads = [(workload.name, workload.summary) for workload in WORKLOADS]
    servers = [
        (
            server.name,
            server.summary,
            server.interface,
            server.protocol,
            "yes" if server.default else "no",
            ", ".join(missing_packages(server)) or "-",
        )
        for server in SERVERS
    ]
    header = ("server", "what it is", "app", "protocol", "default", "missing")
    return "\n\n".join(
        [
            format_table(("workload", "what it is"), workloads),
            format_table(header, servers, words=len(header)),
        ]
    )


def _measure_and_report(
    options: Options,
    workloads: Sequence[Workload | Trial],
    servers: Sequence[Server],
    json_file: TextIO | None,
    page: str | None,
) -> bool:
    if platform.system() != "Linux":
        raise BenchmarkError("the benchmark reads CPU time and pins processes as only Linux can.")
    require_installed(servers)
    of_requests = [workload for workload in workloads if isinstance(workload, Workload)]
    if any(workload.measure is over_workers for workload in of_requests):
        find_strace()
    wrk, nginx = find_wrk(), find_nginx()
    most = max(
        [64, *options.pace.connections, *(max(it.connections) for it in of_requests)],
    )
    backlog = listen_backlog(most)
    placement = choose_placement(os.sched_getaffinity(0))
    environment = describe(servers, workloads, nginx=nginx, wrk=wrk)
    how = _say_how(options, str(placement))
    versions = ", ".join(f"{name} {value}" for name, value in environment.items())
    click.echo(f"{versions.removeprefix('machine ')}\n{how}")

    # The benchmark's own threads belong to the load; servers are placed one by one.
    os.sched_setaffinity(0, placement.load)
    runs: list[Run] = []
    with (
        signals_end_it(),
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
    ):
        endpoints = _endpoints(servers, options.sockets, directory)
        bench = Bench(
            root=_ROOT,
            directory=Path(directory),
            wrk=wrk,
            nginx_port=free_port(),
            endpoints=endpoints,
            backlog=backlog,
            placement=placement,
        )
        bench.prepare()
        upstreams = [Upstream(s.name, s.protocol, endpoints[s.name]) for s in servers]
        Path(directory, "nginx.conf").write_text(
            render(bench.nginx_port, upstreams, connections=most)
        )
        with running(
            "nginx",
            nginx_argv(nginx, Path(directory)),
            cwd=Path(directory),
            ready_text=READY_TEXT,
            cpus=placement.load,
        ) as nginx_process:
            for run in measure(bench, workloads, servers, options.pace):
                runs.append(run)
                click.echo(_progress(run, options), err=True)
                if run.failure:
                    # It says which server refused or closed a connection, and how.
                    click.echo(nginx_process.log_tail, err=True)

    summaries = summarise(runs)
    pairs = [*PAIRS, *pairs_with_pure(servers, PAIRS), *pairs_with_before(servers)]
    comparisons = compare(runs, pairs)
    named = {server.name: server for server in servers}
    known = {workload.name: workload for workload in workloads}
    click.echo("\n" + format_results(known, named, summaries, comparisons))
    if page is not None:
        _RESULTS.mkdir(exist_ok=True)
        write_page(
            _RESULTS / f"{page}.md",
            environment=environment,
            how=how,
            workloads=known,
            servers=named,
            summaries=summaries,
            comparisons=comparisons,
        )
    if json_file is not None:
        everything = {
            "options": asdict(options),
            "environment": environment,
            "runs": [_plain(run) for run in runs],
        }
        json_file.write(json.dumps(everything, indent=2) + "\n")
    return any(summary.failure and named[summary.server].is_bridge for summary in summaries)


def _plain(run: Run) -> dict[str, object]:
    return {
        "workload": run.case.workload,
        "connections": run.case.connections,
        "server": run.server,
        "round": run.round,
        "figures": {metric.heading: value for metric, value in run.figures.items()},
        "failure": run.failure,
    }


def _endpoints(
    servers: Sequence[Server], sockets: Literal["unix", "tcp"], directory: str
) -> dict[str, str]:
    if sockets == "tcp":
        return {server.name: f"127.0.0.1:{free_port()}" for server in servers}
    paths = {server.name: f"{directory}/{server.name}.sock" for server in servers}
    if max(len(os.fsencode(path)) for path in paths.values()) > _SOCKET_PATH_BYTES:
        raise BenchmarkError(
            f"the path of a unix socket has at most {_SOCKET_PATH_BYTES} bytes, and those under {directory}"
            " would have more: set the variable TMPDIR to a shorter directory, or use --sockets tcp."
        )
    return {name: f"unix:{path}" for name, path in paths.items()}


def _say_how(options: Options, placement: str) -> str:
    pace = options.pace
    plural = "s" if pace.rounds > 1 else ""
    return (
        f"All servers stay up, each has its turn in each round: {pace.rounds} round{plural} of {pace.seconds} s"
        f" after {pace.warm_up_seconds} s of warm-up; {options.sockets} sockets.\n{placement}"
    )


def _progress(run: Run, options: Options) -> str:
    where = (
        f"{run.case.workload}, {run.case.connections} connections"
        if run.case.connections
        else (run.case.workload)
    )
    if run.failure:
        return f"{where}: {run.server} FAILED: {run.failure}"
    metric, value = next(iter(run.figures.items()))
    return (
        f"{where}, round {run.round}/{options.pace.rounds}: {run.server}"
        f" {value:{metric.form}} {metric.heading}"
    )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
