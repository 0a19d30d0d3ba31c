"""``uwsgibridge ctl profile`` and ``memory``: where the time of a worker goes, and which lines hold its memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click

from uwsgibridge.cli.ctl_group import Asked, subcommand, worker_option
from uwsgibridge.cli.status_table import format_duration, format_size
from uwsgibridge.cli.units import seconds as seconds_type
from uwsgibridge.control.client import ask

_AUTO: Final = "auto"
_BRIDGE: Final = "bridge"

# How much longer than the sampling the answer may take.
_MARGIN_SECONDS: Final = 30.0

# A worker looks at each piece of its memory.
_SNAPSHOT_SECONDS: Final = 120.0

# Files with these endings get stacks as other tools read them; any other file gets a page with the graph.
_COLLAPSED: Final = (".txt", ".folded", ".collapsed")

# How many functions the terminal shows.
_SHOWN_FUNCTIONS: Final = 10


@subcommand("profile")
@click.option(
    "--seconds",
    type=seconds_type(least=0.1, most=600),
    default=10.0,
    show_default=True,
    help="For how many seconds to sample.",
)
@worker_option("Sample this worker alone, and not all of them.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    show_default="profile-TIME.html",
    help="The flame graph, an HTML page; or, with the ending .txt or .folded, the stacks themselves.",
)
@click.option(
    "--sampler",
    type=click.Choice([_AUTO, "py-spy", "python", _BRIDGE]),
    default=_AUTO,
    show_default=True,
    help="What samples: py-spy, Python's own profiler (3.15), or the worker itself.",
)
def _profile(asked: Asked, seconds: float, worker: int, output: Path | None, sampler: str) -> None:
    """Find out where the time of the workers goes, and draw a flame graph."""
    # Imported here: no other command needs it.
    from uwsgibridge.cli.flame_graph import collapse, draw

    by_worker, used = _sample(asked, seconds, worker, sampler)
    stacks: dict[tuple[str, ...], int] = {}
    for pid, found in by_worker.items():
        own = () if len(by_worker) == 1 else (f"worker {pid}",)
        stacks.update({(*own, *stack): count for stack, count in found.items()})
    pids = list(by_worker)
    whom = f"worker {pids[0]}" if len(pids) == 1 else f"{len(pids)} workers"
    title = f"{whom}, {seconds:g} s, sampled by {used}"
    path = output or Path(time.strftime("profile-%Y%m%d-%H%M%S.html"))
    text = collapse(stacks) if path.suffix in _COLLAPSED else draw(stacks, title)
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise click.ClickException(f"{path} can't be written: {error.strerror}") from error
    answer = {
        "ok": True,
        "file": str(path),
        "sampler": used,
        "stacks": [[list(stack), count] for stack, count in stacks.items()],
    }
    asked.show(answer, "\n".join([*_busiest(stacks), f"Written: {path} ({title})"]))


@subcommand("memory")
@worker_option("Look at this worker; needed where there are several.")
@click.option(
    "--lines",
    type=click.IntRange(min=1, max=1_000),
    default=20,
    show_default=True,
    help="How many lines of code to show at the most.",
)
@click.option("--reset", is_flag=True, help="Compare later calls with what is held now.")
def _memory(asked: Asked, worker: int, lines: int, *, reset: bool) -> None:
    """Show which lines of code hold memory; from the second call on, which hold more than at the first.

    The service has to be started with --tracemalloc.
    """
    answer = ask(
        asked.path,
        "memory",
        worker=worker,
        lines=lines,
        reset=reset,
        timeout_seconds=_SNAPSHOT_SECONDS,
    )
    asked.show(answer, _format_memory(answer))


def _sample(asked: Asked, seconds: float, worker: int, sampler: str) -> tuple[dict[int, Any], str]:
    """Sample one worker or all; give the stacks of each, and what has sampled them."""
    from uwsgibridge.cli import profilers  # imported here: no other command needs it

    chosen = profilers.find_profiler() if sampler == _AUTO else sampler
    if chosen not in {None, _BRIDGE}:
        pids = [worker] if worker else _ready_workers(asked)
        _require_worker(asked, pids)
        try:
            return profilers.profile(str(chosen), pids, seconds), str(chosen)
        except profilers.ProfilerFailed as error:
            if sampler != _AUTO:
                raise click.ClickException(str(error)) from error
            click.echo(f"Warning: {error}; the workers sample themselves", err=True)
    answer = ask(
        asked.path,
        "profile",
        seconds=seconds,
        worker=worker,
        timeout_seconds=seconds + _MARGIN_SECONDS,
    )
    found = {}
    for one in answer["profiles"]:
        if "error" in one:
            click.echo(f"Warning: worker {one['pid']}: {one['error']}", err=True)
        else:
            found[one["pid"]] = {tuple(stack): count for stack, count in one["stacks"]}
    return found, "the worker itself"


def _require_worker(asked: Asked, pids: list[int]) -> None:
    """Refuse a process that is none of the workers: a profiler would take any."""
    known = [it["pid"] for it in ask(asked.path, "status")["workers"]]
    strangers = set(pids) - set(known)
    if strangers or not pids:
        named = f"no worker has the pid {min(strangers)}" if strangers else "no worker is ready"
        raise click.ClickException(f"{named}; there are {', '.join(map(str, known)) or 'none'}")


def _ready_workers(asked: Asked) -> list[int]:
    workers = ask(asked.path, "status")["workers"]
    return [it["pid"] for it in workers if it["state"] in {"ready", "busy", "stuck"}]


def _busiest(stacks: dict[tuple[str, ...], int]) -> list[str]:
    """Name the functions that were at work in most samples."""
    total = sum(stacks.values())
    if not total:
        return ["The application did nothing in this time."]
    own: dict[str, int] = {}
    for stack, count in stacks.items():
        own[stack[-1]] = own.get(stack[-1], 0) + count
    busiest = sorted(own.items(), key=lambda item: -item[1])[:_SHOWN_FUNCTIONS]
    return [f"{100 * count / total:5.1f} %  {name}" for name, count in busiest] + [""]


def _format_memory(answer: dict[str, Any]) -> str:
    since = answer["since_seconds"]
    held = f"Worker {answer['pid']} holds {format_size(answer['traced_bytes'])} of traced memory."
    if since is None:
        heading = f"{held} Later calls are compared with this one.\n"
    elif not answer["lines"]:
        return f"{held} No line holds more than {format_duration(since)} ago."
    else:
        heading = f"{held} More than {format_duration(since)} ago:\n"
    rows = [f"{'MORE':>11} {'BLOCKS':>8} {'ALL':>11}  PLACE"]
    for line in answer["lines"]:
        more, all_ = format_size(line["more_bytes"]), format_size(line["bytes"])
        rows.append(f"{more:>11} {line['more_blocks']:>8} {all_:>11}  {line['place']}")
        rows += [f"{'':>34}by {it}" for it in reversed(line["traceback"])]
    return "\n".join([heading, *rows])
