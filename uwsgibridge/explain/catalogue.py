"""The catalogue: what Nginx says about an upstream and its clients, with cause and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from uwsgibridge.explain.access_rows import ACCESS_ROWS
from uwsgibridge.explain.entry import Entry
from uwsgibridge.explain.error_rows import ERROR_ROWS

CATALOGUE: Final[tuple[Entry, ...]] = (*ERROR_ROWS, *ACCESS_ROWS)

_BY_STATUS: Final[Mapping[str, Entry]] = {it.pattern.pattern: it for it in ACCESS_ROWS}


@lru_cache(maxsize=4096)  # a log has the same messages again and again
def entry_of_message(message: str) -> Entry | None:
    """Find the entry for a message of the error log; None where it is not known."""
    return next((it for it in ERROR_ROWS if it.pattern.match(message)), None)


def entry_of_status(status: str) -> Entry | None:
    """Find the entry for a status of the access log; None where it is not known."""
    return _BY_STATUS.get(status)
