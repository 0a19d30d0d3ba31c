"""Draws a flame graph: one HTML file that loads nothing else, with light and dark colours."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, TypeAlias

# How many samples were at each stack, whose outermost frame comes first.
Stacks: TypeAlias = Mapping[tuple[str, ...], int]

# Bars of less than this part of all samples are not drawn: nobody could see them.
_LEAST_PART: Final = 0.0005

# Deeper stacks are cut there: Python writes JSON by recursion.
_MOST_FRAMES: Final = 200


@dataclass(slots=True)
class _Frame:
    count: int = 0
    callees: dict[str, _Frame] = field(default_factory=dict)


def collapse(stacks: Stacks) -> str:
    """Write stacks as other tools read them: frames with `;` between them, and the number of samples."""
    ordered = sorted(stacks.items(), key=lambda item: (-item[1], item[0]))
    return "".join(f"{';'.join(stack)} {count}\n" for stack, count in ordered)


def draw(stacks: Stacks, title: str) -> str:
    """Make the page.

    Args:
        stacks: what was sampled.
        title: what it shows, for people.
    """
    root = _Frame()
    for stack, count in stacks.items():
        frame = root
        frame.count += count
        for name in stack[:_MOST_FRAMES]:
            frame = frame.callees.setdefault(name, _Frame())
            frame.count += count
    data = _describe("all", root, root.count * _LEAST_PART)
    # Within a script, `</` would end it, whatever it is a part of.
    written = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = resources.files("uwsgibridge.cli").joinpath("flame_graph.html").read_text("utf-8")
    return page.replace("__TITLE__", html.escape(title)).replace("__DATA__", written)


def _describe(name: str, frame: _Frame, least: float) -> list[Any]:
    """Give a frame as the page reads it: name, samples, callees; a loop, since stacks may be deep."""
    top: list[Any] = [name, frame.count, []]
    pending = [(frame, top)]
    while pending:
        one, described = pending.pop()
        for callee, inner in sorted(one.callees.items()):
            if inner.count >= least:
                entry: list[Any] = [callee, inner.count, []]
                described[2].append(entry)
                pending.append((inner, entry))
    return top
