"""Writes the table of uWSGI's options for docs/moving.md: ``python -m uwsgibridge.migration.uwsgi.reference``."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from uwsgibridge.migration.plan import Verdict
from uwsgibridge.migration.uwsgi.table import ROWS

_WORDS: Final = {
    Verdict.MAPPED: "",
    Verdict.PASSED_OVER: "nothing is needed: ",
    Verdict.WARNED: "a warning: ",
    Verdict.REFUSED: "**refused**: ",
}


def table_lines() -> list[str]:
    """Write a row for each row of the table; those that say the same and follow each other are one."""
    lines = ["| uWSGI | here |", "|---|---|"]
    for (verdict, text), rows in groupby(ROWS, lambda it: (it.verdict, it.text)):
        names = ", ".join(f"`{name}`" for row in rows for name in row.names)
        lines.append(f"| {names} | {_WORDS[verdict]}{text} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table_lines()))  # noqa: T201 - this is the table
