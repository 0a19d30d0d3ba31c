"""What tests of several modules have in common."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from uwsgibridge.protocol import response_headers, status

# A machine that is busy with other tests makes examples slowly, which is no fault of theirs.
_BUSY: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# How long the generated tests search: briefly in `make test`, with the same examples each time, since that judges a change
# and does not look for news; for minutes in `make fuzz`. A module that is imported before a profile is loaded does without.
settings.register_profile("quick", _BUSY, max_examples=80, derandomize=True)
settings.register_profile("fuzz", _BUSY, max_examples=3_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# What is remembered of the heads of answers. There is room for some hundreds of them, and answers with others than these
# never go straight.
_REMEMBERED: tuple[dict[Any, Any], ...] = (
    response_headers.known_kinds,
    response_headers.known_stream_kinds,
    response_headers.known_text_kinds,
    response_headers.known_text_stream_kinds,
    status.known_statuses,
)


@pytest.fixture(autouse=True, scope="module")
def forgets_heads() -> Iterator[None]:
    """Have a module leave no heads behind: those of tests that generate them would leave no room for others."""
    before = [dict(table) for table in _REMEMBERED]
    yield
    for table, content in zip(_REMEMBERED, before, strict=True):
        table.clear()
        table.update(content)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Give a directory that other users may enter, with a path that is short enough for a unix socket.

    pytest's own ones are neither.
    """
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)
