"""Print the figures as plain text: two tables, one of the servers and one of the ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.servers import Server
    from benchmarks.summary import Comparison, Spread, Summary

_FLAW = "!"
_FLAW_NOTE = (
    f"{_FLAW} There were errors: an answer that fails is cheap, so don't rely on these figures."
)


def format_results(
    servers: Mapping[str, Server], summaries: Sequence[Summary], comparisons: Sequence[Comparison]
) -> str:
    """Return the whole report on the figures, without a line break at its end."""
    blocks = []
    for connections in dict.fromkeys(summary.connections for summary in summaries):
        of_count = [s for s in summaries if s.connections == connections]
        blocks.append(
            f"{connections} connection{'s' if connections > 1 else ''}"
            " (median of the rounds, lowest to highest in parentheses)\n"
            + format_table(
                ("server", "protocol", "CPU us/request", "requests/s", "p99 ms", "errors"),
                [_server_row(servers[summary.server], summary) for summary in of_count],
            )
        )
        ratios = [c for c in comparisons if c.connections == connections]
        if ratios:
            blocks.append(
                format_table(
                    ("ratio", "", "CPU/request", "requests/s", "p99"),
                    [_ratio_row(comparison) for comparison in ratios],
                )
            )
    if any(summary.errors for summary in summaries):
        blocks.append(_FLAW_NOTE)
    return "\n\n".join(blocks)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 2) -> str:
    """Return a table whose first columns, so many as `words`, stand to the left, and whose figures to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = [
        "  ".join(
            cell.ljust(width) if column < words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    padded.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in padded)


def _server_row(server: Server, summary: Summary) -> tuple[str, ...]:
    return (
        server.name,
        server.protocol,
        _flagged(_spread(summary.cpu_microseconds, ".1f"), summary.errors > 0),
        _flagged(_spread(summary.requests_per_second, ",.0f"), summary.errors > 0),
        _flagged(_spread(summary.p99_milliseconds, ".1f"), summary.errors > 0),
        str(summary.errors),
    )


def _ratio_row(comparison: Comparison) -> tuple[str, ...]:
    return (
        comparison.server,
        f"/ {comparison.baseline}",
        _flagged(_spread(comparison.cpu, ".2f"), comparison.flawed),
        _flagged(_spread(comparison.requests_per_second, ".2f"), comparison.flawed),
        _flagged(_spread(comparison.p99, ".2f"), comparison.flawed),
    )


def _spread(spread: Spread, form: str) -> str:
    if spread.lowest == spread.highest:
        return f"{spread.median:{form}}"
    return f"{spread.median:{form}} ({spread.lowest:{form}} to {spread.highest:{form}})"


def _flagged(text: str, flaw: bool) -> str:
    return f"{text} {_FLAW}" if flaw else text
