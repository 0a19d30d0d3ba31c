"""The table in docs/testing.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_each_test_in_the_table_is_there():
    page = (REPOSITORY / "docs/testing.md").read_text()
    named = set(re.findall(r"`((?:\w+/)?test_\w+\.py)::(test_\w+)`", page))
    assert len(named) > 50
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if f"\ndef {name}(" not in (REPOSITORY / "integration" / file).read_text()
    ]
    assert missing == []
