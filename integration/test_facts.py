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
