"""The catalogue as a part of docs/troubleshooting.md.

``python -m uwsgibridge.explain.reference docs/troubleshooting.md`` writes it anew there; a test holds both equal.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from uwsgibridge.explain.catalogue import CATALOGUE
from uwsgibridge.explain.entry import Entry

BEGIN: Final = (
    "<!-- Of the catalogue: python -m uwsgibridge.explain.reference docs/troubleshooting.md -->\n"
)
END: Final = "<!-- The end of the catalogue. -->\n"


def render_catalogue() -> str:
    """Write the tables of the error log and of the access log, in Markdown."""
    lines = [
        "| Nginx's error log | the client sees | what it is | what to change |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {_code(it.says)} | {it.client} | {it.happened} {it.why} | {it.change} |"
        for it in CATALOGUE
        if it.log == "error"
    ]
    lines += ["", "| access log | what it is | what to change |", "|---|---|---|"]
    lines += [_row_of_access(it) for it in CATALOGUE if it.log == "access"]
    return "\n".join(lines) + "\n"


def put_into(page: str) -> str:
    """Put the catalogue into a page, between the marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the line {(END if begin else BEGIN).strip()}")
    return f"{before}{begin}\n{render_catalogue()}\n{end}{after}"


def _row_of_access(entry: Entry) -> str:
    return f"| {entry.client} | {entry.happened} {entry.why} | {entry.change} |"


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(put_into(path.read_text("utf-8")), encoding="utf-8")
