"""The table in docs/testing.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parent / "docs" / "testing.md"


def test_each_test_in_the_table_is_there():
    named = set(re.findall(r"`((?:\w+/)?test_\w+\.py)::(test_\w+)`", TABLE.read_text()))
    assert len(named) > 50
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if f"\ndef {name}(" not in (HERE / file).read_text()
    ]
    assert missing == []


def test_each_event_that_the_page_on_logs_names_is_one():
    page = (TABLE.parent / "logs.md").read_text()
    cells = re.findall(r"^\| (`.+?`) \| ", page, re.MULTILINE)
    named = {event for cell in cells for event in re.findall(r"`([a-z][^`]{7,})`", cell)}
    assert len(named) > 20
    sources = "".join(
        path.read_text() for path in (TABLE.parent.parent / "uwsgibridge").rglob("*.py")
    )
    keys = {"timestamp", "exception"}
    assert [event for event in sorted(named - keys) if f'"{event}"' not in sources] == []
