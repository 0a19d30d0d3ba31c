"""The live screen of ``ctl top``: rates, workers and the slowest requests, with keys; needs rich (``uwsgibridge[top]``)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import Any, Final, TypeAlias

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from uwsgibridge.cli.latency import quantile_between
from uwsgibridge.cli.request_table import printable
from uwsgibridge.cli.status_table import Rates, format_duration, format_size

Status: TypeAlias = Mapping[str, Any]


_UNKNOWN: Final = "-"

# Lines of the screen that are no row of a table: the heading, the titles, the keys, the empty lines between them.
_OTHER_LINES: Final = 13
_LEAST_ROWS: Final = 3

_STYLES: Final = {"stuck": "bold red", "busy": "yellow", "starting": "cyan", "stopping": "magenta"}


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the workers.

    Attributes:
        name: shown on the screen.
        key: by which the largest comes first.
    """

    name: str
    key: Callable[[Status, Rates], float]


def _number(value: float | None) -> float:
    return -1.0 if value is None else float(value)


ORDERS: Final = (
    Order("pid", lambda worker, _: -_number(worker.get("pid"))),
    Order("CPU", lambda worker, rates: _number(rates.of_worker(worker, "cpu_seconds"))),
    Order("requests/s", lambda worker, rates: _number(rates.of_worker(worker, "requests"))),
    Order("memory", lambda worker, _: _number(worker.get("rss_bytes"))),
    Order("queue", lambda worker, _: _number(worker.get("queue_seconds"))),
)


def draw(
    status: Status,
    earlier: Status,
    requests: Sequence[Status],
    order: Order,
    *,
    width: int,
    height: int,
    left_out: int = 0,
) -> RenderableType:
    """Draw one screen.

    Args:
        status: of this moment.
        earlier: of the round before; empty in the first one.
        requests: in flight, the oldest first.
        order: of the workers.
        width: of the terminal, in columns.
        height: of the terminal, in lines.
        left_out: how many more requests there are.
    """
    rates = Rates(status, earlier)
    workers = sorted(status.get("workers", ()), key=lambda it: order.key(it, rates), reverse=True)
    rows = max(2 * _LEAST_ROWS, height - _OTHER_LINES)
    for_workers = min(len(workers), max(_LEAST_ROWS, rows - min(len(requests), rows // 2)))
    for_requests = min(len(requests), max(_LEAST_ROWS, rows - for_workers))
    in_flight = len(requests) + left_out
    return Group(
        *_heading(status, earlier, rates, in_flight),
        Text(),
        _workers(workers[:for_workers], rates, order),
        *_more(len(workers) - for_workers, "workers"),
        Text(),
        _requests(requests[:for_requests], width),
        *_more(in_flight - for_requests, "requests"),
        Text(),
        Text("q quit   s sort   r refresh", style="dim"),
    )


def run(ask: Callable[[], tuple[Status, Status]], interval_seconds: float) -> None:
    """Show the screen until the key q, or Ctrl-C.

    Args:
        ask: gives the answers to ``status`` and to ``requests``.
        interval_seconds: from one round to the next.
    """
    console = Console()
    earlier: Status = {}
    order = 0
    with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            status, answer = ask()
            next_round = monotonic() + interval_seconds
            while True:
                live.update(
                    draw(
                        status,
                        earlier,
                        answer["requests"],
                        ORDERS[order],
                        width=console.width,
                        height=console.height,
                        left_out=answer["left_out"],
                    ),
                    refresh=True,
                )
                key = keys(max(0.0, next_round - monotonic()))
                if key == "q":
                    return
                if key == "s":
                    order = (order + 1) % len(ORDERS)
                elif key in {"", "r"}:
                    break
            # A round that a key has begun is short, and its rates would jump about.
            if not earlier or key == "" or status.get("pid") != earlier.get("pid"):
                earlier = status


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for a key so many seconds: "" for none, and another text for a change of the size."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def resized(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writer, b"\0")

    def wait(seconds: float) -> str:
        ready, _, _ = select.select([descriptor, reader], [], [], seconds)
        if reader in ready:
            os.read(reader, 4096)
            return "resized"
        # The end of the input is no key: the terminal is gone.
        return (os.read(descriptor, 1) or b"q").decode("latin-1") if ready else ""

    handler = signal.signal(signal.SIGWINCH, resized)
    try:
        tty.setcbreak(descriptor)
        yield wait
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)
        os.close(reader)
        os.close(writer)


def _heading(status: Status, earlier: Status, rates: Rates, in_flight: int) -> list[Text]:
    first = Text.assemble(
        (_text(status.get("name")), "bold"),
        f"  {_text(status.get('state'))}, up {format_duration(status.get('started_seconds_ago'))}, "
        f"generation {_text(status.get('generation'))}, pid {_text(status.get('pid'))}",
    )
    p50, p99 = (quantile_between(status, earlier, part) for part in (0.5, 0.99))
    per_second = rates.of_all("requests")
    second = Text.assemble(
        ("requests/s ", "dim"),
        (_decimal(per_second), "bold"),
        ("   p50 ", "dim"),
        (_UNKNOWN if p50 is None else format_duration(p50), "bold"),
        ("   p99 ", "dim"),
        (_UNKNOWN if p99 is None else format_duration(p99), "bold"),
        ("   in flight ", "dim"),
        (str(in_flight), "bold"),
        ("   waiting ", "dim"),
        (str(sum(it.get("waiting") or 0 for it in status.get("listening", ()))), "bold"),
    )
    refused = sum((status.get("refused") or {}).values())
    wrong = [("errors ", status.get("app_errors")), ("refused ", refused)]
    wrong += [("slow ", status.get("slow_requests")), ("crashed ", status.get("crashed"))]
    third = Text()
    for words, count in wrong:
        third.append(words if not third else f"   {words}", "dim")
        third.append(_text(count), "bold red" if count else "")
    lines = [first, second, third]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _workers(workers: Sequence[Status], rates: Rates, order: Order) -> Table:
    table = _table(f"Workers by {order.name}", is_wide=False)
    for name in ("PID", "STATE", "GEN", "REQ/S", "CPU %", "IN FLIGHT", "QUEUE", "MEMORY", "AGE"):
        table.add_column(name, justify="left" if name == "STATE" else "right", no_wrap=True)
    for worker in workers:
        state = _text(worker.get("state"))
        cpu = rates.of_worker(worker, "cpu_seconds")
        table.add_row(
            _text(worker.get("pid")),
            Text(state, style=_STYLES.get(state, "green")),
            _text(worker.get("generation")),
            _decimal(rates.of_worker(worker, "requests")),
            _decimal(None if cpu is None else cpu * 100),
            f"{_text(worker.get('in_flight'))}/{_text(worker.get('capacity'))}",
            format_duration(worker.get("queue_seconds")),
            format_size(worker.get("rss_bytes")),
            format_duration(worker.get("age_seconds")),
        )
    return table


def _requests(requests: Sequence[Status], width: int) -> Table:
    table = _table("Oldest requests", is_wide=True)
    table.add_column("AGE", justify="right", no_wrap=True)
    for name in ("PHASE", "WORKER", "THREAD"):
        table.add_column(name, no_wrap=True)
    is_wide = width >= 120
    if is_wide:
        table.add_column("APPLICATION", no_wrap=True, max_width=24)
    table.add_column("METHOD", no_wrap=True, max_width=8)
    table.add_column("PATH", no_wrap=True, overflow="ellipsis", ratio=1)
    for it in requests:
        age, phase = it["age_seconds"], _text(it["phase"])
        table.add_row(
            _UNKNOWN if age is None else format_duration(age),
            Text(phase, style=_STYLES.get(phase, "")),
            _text(it["pid"]),
            _text(it["thread"] or it["task"]),
            *([Text(_text(it["application"]))] if is_wide else []),
            # As texts: what comes from a client is no markup.
            Text(printable(_text(it["method"]))),
            Text(printable(_text(it["path"]))),
        )
    return table


def _table(title: str, *, is_wide: bool) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        padding=(0, 2, 0, 0),
        expand=is_wide,
    )


def _more(count: int, what: str) -> list[Text]:
    return [Text(f"and {count} more {what}", style="dim")] if count > 0 else []


def _decimal(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1f}"


def _text(value: object) -> str:
    return _UNKNOWN if value is None else str(value)
