"""Line charts as SVG, without a library: one line for each server, over the seconds of the run."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 760, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 20, 56, 60
_COLORS = ("#2b6cb0", "#68a5db", "#c05621", "#718096", "#b7791f", "#805ad5")
_DASHES = ("", "", "6 3", "2 3", "8 3 2 3", "1 2")


def line_chart(
    title: str, lines: Mapping[str, Sequence[float]], *, shaded: tuple[float, float], words: str
) -> str:
    """Return an SVG.

    Args:
        title: above the chart.
        lines: a value for each second, by name.
        shaded: the seconds that are shown as a grey band.
        words: what the band is.
    """
    seconds = max(map(len, lines.values()))
    highest = max((max(values, default=0.0) for values in lines.values()), default=0.0) * 1.1 or 1.0
    across = (_WIDTH - _LEFT - _RIGHT) / seconds
    up = (_HEIGHT - _TOP - _BOTTOM) / highest
    ground = _HEIGHT - _BOTTOM

    def x(second: float) -> float:
        return _LEFT + second * across

    begin, end = shaded
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect {size} fill="white"/>',
        f'<rect x="{x(begin):.1f}" y="{_TOP}" width="{(end - begin) * across:.1f}" height="{ground - _TOP}" fill="#edf2f7"/>',
        _text(10, 20, title, weight="bold"),
        _text(x((begin + end) / 2), _TOP + 16, words, anchor="middle"),
        f'<line x1="{_LEFT}" y1="{ground}" x2="{_WIDTH - _RIGHT}" y2="{ground}" stroke="#1a202c"/>',
    ]
    parts += [
        _text(x(second), ground + 16, f"{second} s", anchor="middle")
        for second in range(0, seconds + 1, 5)
    ]
    for part in range(5):
        value = highest / 1.1 * part / 4
        y = ground - value * up
        parts += [
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#e2e8f0"/>',
            _text(_LEFT - 6, y + 4, f"{value:.0f}", anchor="end"),
        ]
    legend = 10.0
    for number, (name, values) in enumerate(lines.items()):
        look = f'stroke="{_COLORS[number]}" stroke-width="2" stroke-dasharray="{_DASHES[number]}"'
        points = " ".join(
            f"{x(second + 0.5):.1f},{ground - value * up:.1f}"
            for second, value in enumerate(values)
        )
        parts += [
            f'<polyline points="{points}" fill="none" {look}/>',
            f'<line x1="{legend:.1f}" y1="{_HEIGHT - 16}" x2="{legend + 24:.1f}" y2="{_HEIGHT - 16}" {look}/>',
            _text(legend + 30, _HEIGHT - 12, name),
        ]
        legend += 48 + 6.2 * len(name)
    return "\n".join([*parts, "</svg>\n"])


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="#1a202c">'
        f"{escape(text)}</text>"
    )
