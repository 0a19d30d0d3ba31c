"""The receipt for an upload to the demo."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest

from uwsgibridge.demo.receipt import Receipt

CLOCK = "uwsgibridge.demo.receipt.time"


def test_pieces_are_counted_and_hashed_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 100.5])
    monkeypatch.setattr(CLOCK, SimpleNamespace(monotonic=lambda: next(now)))
    receipt = Receipt()
    for chunk in (b"ab", b"", b"cdef"):
        receipt.add(chunk)

    assert receipt.report() == {
        "size_bytes": 6,
        "sha256": hashlib.sha256(b"abcdef").hexdigest(),
        "chunks": 2,
        "seconds": 0.5,
        "bytes_per_second": 12,
    }


def test_no_time_passed_is_no_division_by_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CLOCK, SimpleNamespace(monotonic=lambda: 1.0))

    assert Receipt().report()["bytes_per_second"] == 0
