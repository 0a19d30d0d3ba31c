"""Writes the table of gunicorn's settings for docs/moving.md: ``python -m uwsgibridge.migration.gunicorn.reference``."""

from __future__ import annotations

from typing import Final

from uwsgibridge.migration.gunicorn.known_settings import SETTINGS
from uwsgibridge.migration.gunicorn.table import ROW_OF
from uwsgibridge.migration.plan import Verdict

_WORDS: Final = {
    Verdict.MAPPED: "",
    Verdict.PASSED_OVER: "nothing is needed: ",
    Verdict.WARNED: "a warning: ",
    Verdict.REFUSED: "**refused**: ",
}


def table_lines() -> list[str]:
    """Write a row for each setting, in the order of gunicorn's documentation."""
    lines = ["| in the file | on the command line | here |", "|---|---|---|"]
    for known in SETTINGS.values():
        row = ROW_OF[known.name]
        flags = ", ".join(f"`{it}`" for it in known.flags)
        lines.append(f"| `{known.name}` | {flags} | {_WORDS[row.verdict]}{row.text} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table_lines()))  # noqa: T201 - this is the table
