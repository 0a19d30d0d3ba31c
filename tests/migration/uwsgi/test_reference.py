"""The table in docs/moving.md is the mapping's."""

from __future__ import annotations

from pathlib import Path

from uwsgibridge.migration.uwsgi.reference import table_lines

PAGE = Path(__file__).parents[3] / "docs/moving.md"


def test_page_has_the_table() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    start = lines.index(table_lines()[0])
    end = next(
        (n for n, it in enumerate(lines) if n > start and not it.startswith("|")), len(lines)
    )
    assert lines[start:end] == table_lines()
