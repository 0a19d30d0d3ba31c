"""Writes requests in flight as a table.

A dash stands for a value that is not known. Paths come from clients: what a terminal would take for a command is written
as an escape.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from uwsgibridge.cli.status_table import format_duration

_UNKNOWN: Final = "-"

# What a table without a terminal is as wide as: paths are whole then.
_NO_WIDTH: Final = 0


def format_requests(answer: Mapping[str, Any], *, width: int = _NO_WIDTH) -> str:
    """Write the answer to ``requests``.

    Args:
        answer: of a supervisor.
        width: of the terminal; longer lines are cut. 0 cuts nothing.
    """
    requests: Sequence[Mapping[str, Any]] = answer["requests"]
    left_out = answer["left_out"]
    if not requests:
        return "No requests are in flight."
    lines = request_lines(requests, width=width)
    if left_out:
        lines += ["", f"{left_out} more are left out: --limit shows more of them."]
    if any(it["phase"] == "stuck" for it in requests):
        lines += ["", "stuck: the worker does not answer; 'ctl stacks' shows where it is."]
    return "\n".join(lines)


def request_lines(requests: Sequence[Mapping[str, Any]], *, width: int = _NO_WIDTH) -> list[str]:
    """Write a heading and a line for each request, with its stack below it where it has one."""
    rows = [("AGE", "PHASE", "WORKER", "THREAD", "METHOD", "PATH"), *map(_cells, requests)]
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]) - 1)]
    several = len({it["application"] for it in requests} - {None}) > 1
    lines = []
    for number, row in enumerate(rows):
        age, phase, worker, thread, method, path = row
        name = ""
        if several:
            name = "APPLICATION" if not number else _text(requests[number - 1]["application"])
            name = f" {name[:16]:<16}"
        line = (
            f"{age:>{widths[0]}} {phase:<{widths[1]}} {worker:>{widths[2]}} {thread:<{widths[3]}}"
            f"{name} {method:<{widths[4]}} {path}"
        )
        lines.append(line if not width or len(line) <= width else f"{line[: width - 3]}...")
        stack = requests[number - 1].get("stack") if number else None
        if stack:
            lines.append(textwrap.indent(printable(stack, keep="\n"), "    "))
    return lines


def printable(text: str, keep: str = "") -> str:
    """Escape what is no printable character, so that no text from a client commands a terminal."""
    return "".join(
        it if it.isprintable() or it in keep else it.encode("unicode_escape").decode("ascii")
        for it in text
    )


def _cells(request: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
    age = request["age_seconds"]
    return (
        _UNKNOWN if age is None else format_duration(age),
        _text(request["phase"]),
        _text(request["pid"]),
        _text(request["thread"] or request["task"]),
        printable(_text(request["method"]))[:12],
        printable(_text(request["path"])),
    )


def _text(value: object) -> str:
    return _UNKNOWN if value is None else str(value)
