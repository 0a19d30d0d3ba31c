"""The garbage collector while modules are imported: rarely at work, and as before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from uwsgibridge.system.collector import rare_collections


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def collections() -> int:
    return sum(one["collections"] for one in gc.get_stats())


def make(count: int) -> list[list[object]]:
    return [[] for _ in range(count)]


def test_what_an_import_makes_is_not_collected_again_and_again() -> None:
    gc.set_threshold(700, 10, 10)
    before = collections()
    assert make(50_000)
    usual = collections() - before
    with rare_collections():
        before = collections()
        assert make(50_000)
        assert collections() - before <= 1 < usual
    assert gc.get_threshold() == (700, 10, 10)


def test_garbage_does_not_grow_without_a_bound() -> None:
    with rare_collections():
        before = collections()
        for _ in range(500_000):
            cycle: list[object] = []
            cycle.append(cycle)
        assert collections() > before


def test_an_error_ends_it_as_well() -> None:
    gc.set_threshold(700, 10, 10)
    with pytest.raises(ImportError), rare_collections():
        raise ImportError
    assert gc.get_threshold() == (700, 10, 10)


def test_what_the_imported_code_sets_stays() -> None:
    with rare_collections():
        gc.set_threshold(5000, 20, 20)
    assert gc.get_threshold() == (5000, 20, 20)


def test_a_collector_that_is_off_stays_off() -> None:
    gc.set_threshold(0)
    with rare_collections():
        assert gc.get_threshold()[0] == 0
    assert gc.get_threshold()[0] == 0
