"""The table of what is in flight: counting, and being woken exactly when there is room."""

from __future__ import annotations

import threading

import pytest

from uwsgibridge.hosts.admission import Admission

PATIENCE_SECONDS = 20.0
RACES = 300


class Wakes:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def admission_of(count: int, wake: Wakes) -> Admission[int]:
    admission: Admission[int] = Admission(10, 5, wake)
    admission.in_flight.update(range(count))
    return admission


def test_it_begins_empty() -> None:
    admission: Admission[int] = Admission(10, 5, Wakes())
    assert (admission.limit, admission.resume_at, admission.in_flight) == (10, 5, set())


def test_a_release_takes_one_out() -> None:
    admission = admission_of(3, Wakes())
    admission.release(1)
    assert admission.in_flight == {0, 2}


def test_a_second_release_of_the_same_does_nothing() -> None:
    wake = Wakes()
    admission = admission_of(3, wake)
    assert admission.wake_at(1)
    admission.release(1)
    admission.release(1)
    assert admission.in_flight == {0, 2}
    assert wake.count == 0


def test_nobody_is_woken_unasked() -> None:
    wake = Wakes()
    admission = admission_of(10, wake)
    for item in range(10):
        admission.release(item)
    assert wake.count == 0


@pytest.mark.parametrize("level", [0, 1, 5, 9])
def test_the_wake_comes_at_the_level_and_not_before(level: int) -> None:
    wake = Wakes()
    admission = admission_of(10, wake)
    assert admission.wake_at(level)
    for item in range(10):
        assert wake.count == (1 if len(admission.in_flight) <= level else 0)
        admission.release(item)
    assert wake.count == 1  # once for each time of asking


@pytest.mark.parametrize("count", [0, 4, 5])
def test_no_wake_where_there_is_room_already(count: int) -> None:
    wake = Wakes()
    admission = admission_of(count, wake)
    assert not admission.wake_at(5)
    for item in range(count):
        admission.release(item)
    assert wake.count == 0


@pytest.mark.parametrize("levels", [(8, 2), (2, 8)])
def test_the_higher_level_wakes_first(levels: tuple[int, int]) -> None:
    wake = Wakes()
    admission = admission_of(10, wake)
    for level in levels:
        assert admission.wake_at(level)
    admission.release(0)
    assert wake.count == 0
    admission.release(1)
    assert wake.count == 1
    assert admission.wake_at(2)
    for item in range(2, 8):
        admission.release(item)
    assert wake.count == 2


@pytest.mark.parametrize("level", [0, 2])
def test_no_wake_is_lost_between_threads(level: int) -> None:
    """The hosts' threads release while the listener asks; one of the two must notice."""
    for _ in range(RACES):
        woken = threading.Event()
        admission: Admission[int] = Admission(10, 5, woken.set)
        admission.in_flight.update(range(6))
        begin = threading.Barrier(4)

        def release(
            items: range, admission: Admission[int] = admission, begin: threading.Barrier = begin
        ) -> None:
            begin.wait(PATIENCE_SECONDS)
            for item in items:
                admission.release(item)

        threads = [
            threading.Thread(target=release, args=(range(start, start + 2),))
            for start in range(0, 6, 2)
        ]
        for thread in threads:
            thread.start()
        begin.wait(PATIENCE_SECONDS)
        if admission.wake_at(level):
            assert woken.wait(PATIENCE_SECONDS)
            assert len(admission.in_flight) <= level
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert not admission.in_flight
