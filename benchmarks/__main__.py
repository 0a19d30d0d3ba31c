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
from benchmarks.load import find_wrk
from benchmarks.measuring import Bench, free_port, take_turn
from benchmarks.nginx_config import READY_TEXT, Upstream, find_nginx, nginx_argv, render
from benchmarks.options import parse_names
from benchmarks.placement import choose_placement
from benchmarks.processes import running
from benchmarks.servers import (
    PAIRS,
    SERVERS,
    choose,
    missing_packages,
    pairs_with_before,
    require_installed,
    with_before,
)
from benchmarks.summary import compare, summarise
from benchmarks.table import format_results, format_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.measuring import Run
    from benchmarks.servers import App, Server

_ROOT = Path(__file__).resolve().parents[1]

# sun_path of unix(7) without its final NUL.
_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    app: App
    sockets: Literal["unix", "tcp"]
    connections: tuple[int, ...]
    rounds: int
    seconds: int
    warm_up_seconds: int
    before: str | None


def _parse_connections(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[int, ...]:
    try:
        counts = tuple(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise click.BadParameter(f"{value!r} is no list of numbers above 0, such as 1,8,64")
    return counts


@click.command(
    help="Run the bridge and its peers in turn behind one Nginx, and print what a request costs each."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Length of each measured run.",
)
@click.option(
    "--warm-up-seconds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Load on a fresh server before its first measured run.",
)
@click.option(
    "--connections",
    metavar="N,...",
    default="64",
    show_default=True,
    callback=_parse_connections,
    help="Concurrent connections; a list gives one table for each.",
)
@click.option(
    "--only",
    metavar="SERVER,...",
    default="",
    callback=parse_names,
    help="These servers alone; the names are in --list.",
)
@click.option(
    "--app",
    type=click.Choice(["hello", "flask", "fastapi"]),
    default="hello",
    show_default=True,
    help="Application to call; a framework's is run on the servers of its interface.",
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
    "--json",
    "json_file",
    metavar="FILE",
    type=click.File("w", lazy=False),
    help="Also write everything, single runs included, to a file.",
)
@click.option("--list", "list_servers", is_flag=True, help="List the servers and exit.")
def main(
    rounds: int,
    seconds: int,
    warm_up_seconds: int,
    connections: tuple[int, ...],
    only: tuple[str, ...],
    app: App,
    sockets: Literal["unix", "tcp"],
    before: str | None,
    json_file: TextIO | None,
    list_servers: bool,
) -> None:
    """Do what the command line asks for; the exit status is 1 where figures are missing or flawed."""
    if list_servers:
        click.echo(_listing())
        return
    options = Options(app, sockets, connections, rounds, seconds, warm_up_seconds, before)
    try:
        servers = choose(app, only)
        if before:
            servers = with_before(servers, Path(before))
        flawed = _measure_and_report(options, servers, json_file)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    if flawed:
        sys.exit(1)


def _listing() -> str:
    rows = [
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
    return format_table(header, rows, words=len(header))


def _measure_and_report(
    options: Options, servers: Sequence[Server], json_file: TextIO | None
) -> bool:
    if platform.system() != "Linux":
        raise BenchmarkError("the benchmark reads CPU time and pins processes as only Linux can.")
    require_installed(servers)
    wrk, nginx = find_wrk(), find_nginx()
    backlog = listen_backlog(max(options.connections))
    placement = choose_placement(os.sched_getaffinity(0))
    environment = describe(servers, options.app, nginx=nginx, wrk=wrk)
    click.echo(_heading(options, environment, str(placement)))

    # The benchmark's own threads belong to the load; servers are placed one by one.
    os.sched_setaffinity(0, placement.load)
    runs: list[Run] = []
    with (
        signals_end_it(),
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
    ):
        endpoints = _endpoints(servers, options.sockets, directory)
        bench = Bench(
            app=options.app,
            root=_ROOT,
            wrk=wrk,
            nginx_port=free_port(),
            endpoints=endpoints,
            backlog=backlog,
            placement=placement,
            warm_up_seconds=options.warm_up_seconds,
            seconds=options.seconds,
        )
        upstreams = [Upstream(s.name, s.protocol, endpoints[s.name]) for s in servers]
        Path(directory, "nginx.conf").write_text(
            render(bench.nginx_port, upstreams, connections=max(options.connections))
        )
        with running(
            "nginx",
            nginx_argv(nginx, Path(directory)),
            cwd=Path(directory),
            ready_text=READY_TEXT,
            cpus=placement.load,
        ) as nginx_process:
            for run in _rounds(bench, servers, options):
                runs.append(run)
                click.echo(_progress(run, options), err=True)
                if run.load.errors:
                    # It says which server refused or closed a connection, and how.
                    click.echo(nginx_process.log_tail, err=True)

    summaries = summarise(runs)
    comparisons = compare(runs, [*PAIRS, *pairs_with_before(servers)])
    click.echo("\n" + format_results({s.name: s for s in servers}, summaries, comparisons))
    if json_file is not None:
        everything = {
            "options": asdict(options),
            "environment": environment,
            "runs": [asdict(run) for run in runs],
            "servers": [asdict(summary) for summary in summaries],
            "ratios": [asdict(comparison) for comparison in comparisons],
        }
        json_file.write(json.dumps(everything, indent=2) + "\n")
    return any(summary.errors for summary in summaries)


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


def _rounds(bench: Bench, servers: Sequence[Server], options: Options) -> Iterator[Run]:
    # A B C A B C: what changes on the machine in the meantime then meets all of them.
    for round_ in range(1, options.rounds + 1):
        for server in servers:
            yield from take_turn(bench, server, options.connections, round_)


def _heading(options: Options, environment: dict[str, str], placement: str) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in environment.items())
    plural = "s" if options.rounds > 1 else ""
    return (
        f"{versions.removeprefix('machine ')}\n"
        f"{options.app} application, {options.sockets} sockets, one worker process each;"
        f" {options.rounds} round{plural} of {options.seconds} s after"
        f" {options.warm_up_seconds} s of warm-up.\n{placement}"
    )


def _progress(run: Run, options: Options) -> str:
    errors = f", {run.load.errors} ERRORS" if run.load.errors else ""
    return (
        f"round {run.round}/{options.rounds}  {run.server}, {run.connections} connections:"
        f" {run.cpu_microseconds_per_request:.1f} us, {run.load.requests_per_second:,.0f}/s{errors}"
    )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
