"""Writes the status of a supervisor and its workers as a table that fits 80 columns.

A dash stands for a value that is not known yet, or that an older supervisor does not tell.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from uwsgibridge.cli.latency import quantile_between

Status: TypeAlias = Mapping[str, Any]

_UNKNOWN: Final = "-"
_MEBIBYTE: Final = 1024 * 1024
_WIDTH: Final = 80


def format_status(status: Status) -> str:
    """Write the state of the supervisor, and state and totals of each worker."""
    columns = (
        *_FIRST_COLUMNS,
        _Column("REQUESTS", 10, lambda worker: _text(worker.get("requests"))),
        *_MIDDLE_COLUMNS,
        _Column("CPU", 7, lambda worker: _duration(worker.get("cpu_seconds"))),
    )
    return "\n".join([*_heading(status), "", *_table(columns, status), *_sidecars(status)])


def format_rates(status: Status, earlier: Status | None) -> str:
    """Write the rates of each worker since an earlier status: requests a second, and CPU percent.

    Args:
        status: of this moment.
        earlier: an earlier one. Where it is None, or that of another supervisor, there are no rates.
    """
    rates = Rates(status, earlier)
    columns = (
        *_FIRST_COLUMNS,
        _Column("REQ/S", 10, lambda worker: _decimal(rates.of_worker(worker, "requests"))),
        *_MIDDLE_COLUMNS,
        _Column("CPU %", 7, lambda worker: _percent(rates.of_worker(worker, "cpu_seconds"))),
    )
    p50, p99 = (quantile_between(status, earlier or {}, part) for part in (0.5, 0.99))
    total = (
        f"requests a second: {_decimal(rates.of_all('requests'))}, "
        f"p50: {format_duration(p50)}, p99: {format_duration(p99)}"
    )
    return "\n".join([*_heading(status), total, "", *_table(columns, status), *_sidecars(status)])


class Rates:
    """Rates between two answers, with the time by the supervisor's own clock.

    Args:
        status: of this moment.
        earlier: an earlier one. Where it is None, or that of another supervisor, there are no rates.
    """

    def __init__(self, status: Status, earlier: Status | None) -> None:
        self._status = status
        self._earlier: Status = earlier if earlier is not None else {}
        elapsed = _difference(status, self._earlier, "started_seconds_ago")
        is_same = status.get("pid") == self._earlier.get("pid")
        self._elapsed_seconds = elapsed if is_same and elapsed else None
        self._workers = {worker.get("pid"): worker for worker in self._earlier.get("workers", ())}

    def of_all(self, key: str) -> float | None:
        """Give the rate of a count of the supervisor; None where it is not known."""
        return self._of(self._status, self._earlier, key)

    def of_worker(self, worker: Status, key: str) -> float | None:
        """Give the rate of a count of one worker; None where it is not known."""
        return self._of(worker, self._workers.get(worker.get("pid"), {}), key)

    def _of(self, now: Status, before: Status, key: str) -> float | None:
        difference = _difference(now, before, key)
        if difference is None or self._elapsed_seconds is None:
            return None
        return difference / self._elapsed_seconds


def _difference(now: Status, before: Status, key: str) -> float | None:
    """Tell how much a count has grown; None where it is smaller, and so another process's."""
    new, old = now.get(key), before.get(key)
    if new is None or old is None or new < old:
        return None
    return float(new - old)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column; aligned to the right unless its width is negative."""

    title: str
    width: int
    cell: Callable[[Status], str]

    def align(self, text: str) -> str:
        return text.ljust(-self.width) if self.width < 0 else text.rjust(self.width)


def _delay(status: Status) -> str:
    left = status.get("drain_delay_seconds_left")
    return "" if left is None else f" (stops in {_duration(left)})"


def _heading(status: Status) -> list[str]:
    first = (
        f"{_text(status.get('name'))}: {_text(status.get('state'))}{_delay(status)}, "
        f"up {_duration(status.get('started_seconds_ago'))}, pid {_text(status.get('pid'))}, "
        f"generation {_text(status.get('generation'))}, "
        f"uwsgibridge {_text(status.get('version'))}"
    )
    second = ", ".join(
        f"{words}: {_text(status.get(key))}"
        for key, words in (
            ("workers_wanted", "workers wanted"),
            ("requests", "requests"),
            ("recycled", "recycled"),
            ("crashed", "crashed"),
            ("accelerator", "accelerator"),
        )
    )
    return [
        first,
        second,
        *_outcomes(status),
        *map(_listening, status.get("listening", ())),
    ]


def _outcomes(status: Status) -> list[str]:
    """Tell what has gone wrong with requests, and why those were refused that were."""
    refused = status.get("refused")
    slow = status.get("slow_requests")
    counts = (
        f"application errors: {_text(status.get('app_errors'))}",
        f"clients gone: {_text(status.get('client_gone'))}",
        f"refused: {_text(None if refused is None else sum(refused.values()))}",
        *([f"slow: {slow}"] if slow else []),
    )
    lines = [", ".join(counts)]
    if refused:
        reasons = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{reason} {count}" for reason, count in reasons)
        lines += textwrap.wrap(f"refused for: {told}", _WIDTH, subsequent_indent="  ")
    return lines


def _listening(listening: Status) -> str:
    told = f"{_text(listening.get('address'))}: {_text(listening.get('waiting'))} waiting"
    lost = listening.get("lost_file")
    return told if lost is None else f"{told}; its file was {lost}: {listening.get('hint')}"


def _table(columns: Sequence[_Column], status: Status) -> list[str]:
    return _lines(columns, status.get("workers", ()))


def _lines(columns: Sequence[_Column], rows: Sequence[Status]) -> list[str]:
    lines = [" ".join(column.align(column.title) for column in columns)]
    lines += [" ".join(column.align(column.cell(row)) for column in columns) for row in rows]
    return [line.rstrip() for line in lines]


def _sidecars(status: Status) -> list[str]:
    """Write a line for each sidecar, whose name and command take what is left of the width."""
    sidecars = status.get("sidecars", ())
    if not sidecars:
        return []
    names = [_text(it.get("name")) for it in sidecars]
    columns = (
        *_SIDECAR_COLUMNS,
        _Column("NAME", -max(map(len, ["NAME", *names])), lambda it: _text(it.get("name"))),
        _Column("COMMAND", -len("COMMAND"), _short_command),
    )
    lines = _lines(columns, sidecars)
    return ["", *(it if len(it) <= _WIDTH else f"{it[: _WIDTH - 3]}..." for it in lines)]


def _short_command(sidecar: Status) -> str:
    """Give a command in one line, without the directory of its program."""
    program, *rest = _text(sidecar.get("command")).split() or [_UNKNOWN]
    return " ".join([program.rpartition("/")[2] or program, *rest])


def _last_exit(sidecar: Status) -> str:
    last = sidecar.get("last_exit")
    if last is None:
        return _UNKNOWN
    return _text(last.get("signal", last.get("exit_status"))).removeprefix("SIG")


def _in_flight(worker: Status) -> str:
    return f"{_text(worker.get('in_flight'))}/{_text(worker.get('capacity'))}"


def _text(value: object) -> str:
    return _UNKNOWN if value is None else str(value)


def _decimal(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1f}"


def _percent(share: float | None) -> str:
    return _decimal(None if share is None else share * 100)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6_000:
        return f"{seconds / 60:.0f} min"
    if seconds < 360_000:
        return f"{seconds / 3_600:.1f} h"
    return f"{seconds / 86_400:.0f} d"


def format_duration(seconds: float | None) -> str:
    """Write a time in its largest unit, such as `12.4 ms` or `3.4 h`."""
    if seconds is None or seconds >= 1:
        return _duration(seconds)
    return f"{seconds * 1_000:.1f} ms"


def format_size(size_bytes: float | None) -> str:
    """Write a number of bytes in a unit of a fitting size, such as `81.3 MiB`."""
    if size_bytes is None:
        return _UNKNOWN
    mebibytes = size_bytes / _MEBIBYTE
    if mebibytes < 0.1:
        return f"{size_bytes / 1024:.1f} KiB"
    return f"{mebibytes:.1f} MiB" if mebibytes < 1_000 else f"{mebibytes / 1024:.1f} GiB"


_FIRST_COLUMNS: Final = (
    _Column("PID", 7, lambda worker: _text(worker.get("pid"))),
    _Column("STATE", -8, lambda worker: _text(worker.get("state"))),
    _Column("GEN", 4, lambda worker: _text(worker.get("generation"))),
    _Column("AGE", 7, lambda worker: _duration(worker.get("age_seconds"))),
)
_MIDDLE_COLUMNS: Final = (
    _Column("IN FLIGHT", 9, _in_flight),
    _Column("QUEUE", 9, lambda worker: format_duration(worker.get("queue_seconds"))),
    _Column("MEMORY", 9, lambda worker: format_size(worker.get("rss_bytes"))),
)
_SIDECAR_COLUMNS: Final = (
    _Column("PID", 7, lambda sidecar: _text(sidecar.get("pid"))),
    _Column("STATE", -8, lambda sidecar: _text(sidecar.get("state"))),
    _Column("SINCE", 7, lambda sidecar: _duration(sidecar.get("since_seconds_ago"))),
    _Column("RESTARTS", 8, lambda sidecar: _text(sidecar.get("restarts"))),
    _Column("LAST EXIT", 9, _last_exit),
)
