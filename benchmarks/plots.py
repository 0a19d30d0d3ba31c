"""Bar charts as SVG, without a library: one bar for each server, and what failed in words."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.metrics import Metric
    from benchmarks.summary import Summary

_BAR_HEIGHT = 18
_ROW_HEIGHT = 26
_TOP = 34
_NAMES_WIDTH = 170
_BARS_WIDTH = 420
_WIDTH = 760

_OURS = "#2b6cb0"
_THEIRS = "#a0aec0"


def bar_chart(title: str, metric: Metric, summaries: Sequence[Summary], ours: set[str]) -> str:
    """Return an SVG of the medians of one figure, with a line from the lowest to the highest of each.

    Args:
        title: above the bars.
        metric: which figure.
        summaries: of one case, in the order of the bars.
        ours: names of servers whose bars stand out.
    """
    found = [summary.figures.get(metric) for summary in summaries]
    longest = max((spread.highest for spread in found if spread), default=0.0) or 1.0
    scale = _BARS_WIDTH / longest
    parts = [_text(10, 20, title, weight="bold")]
    for row, (summary, spread) in enumerate(zip(summaries, found, strict=True)):
        top = _TOP + row * _ROW_HEIGHT
        baseline = top + _BAR_HEIGHT - 5
        parts.append(_text(_NAMES_WIDTH - 8, baseline, summary.server, anchor="end"))
        if spread is None:
            reason = f"failed: {summary.failure}" if summary.failure else "-"
            parts.append(_text(_NAMES_WIDTH, baseline, reason[:90], color="#c53030"))
            continue
        color = _OURS if summary.server in ours else _THEIRS
        width = spread.median * scale
        middle = top + _BAR_HEIGHT / 2
        low, high = (_NAMES_WIDTH + value * scale for value in (spread.lowest, spread.highest))
        parts += [
            f'<rect x="{_NAMES_WIDTH}" y="{top}" width="{width:.1f}" height="{_BAR_HEIGHT}" fill="{color}"/>',
            f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="#1a202c"/>',
            _text(max(high, _NAMES_WIDTH + width) + 6, baseline, f"{spread.median:{metric.form}}"),
        ]
    height = _TOP + len(summaries) * _ROW_HEIGHT + 10
    size = f'width="{_WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
            f'<rect {size} fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    color: str = "#1a202c",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{color}">'
        f"{escape(text)}</text>"
    )
