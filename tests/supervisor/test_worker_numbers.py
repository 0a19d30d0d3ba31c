"""Each worker has a number, which its successor gets."""

from __future__ import annotations

import json

from uwsgibridge.supervisor.worker_numbers import WorkerNumbers


def fork(numbers: WorkerNumbers, pid: int, predecessor: int | None = None) -> int:
    number = numbers.choose(predecessor)
    numbers.ask_for(number)
    numbers.give(number, pid)
    return number


def test_the_least_free_number_is_taken() -> None:
    numbers = WorkerNumbers()
    assert [fork(numbers, pid) for pid in (11, 12, 13)] == [1, 2, 3]
    numbers.free(12)
    assert fork(numbers, 14) == 2
    assert (numbers.of(14), numbers.of(12)) == (2, 0)


def test_several_may_be_asked_for_at_a_time() -> None:
    numbers = WorkerNumbers()
    for expected in (1, 2):
        assert numbers.choose() == expected
        numbers.ask_for(expected)
    numbers.give(2, 12)
    assert numbers.choose() == 3
    numbers.forget_oldest()
    assert numbers.choose() == 1


def test_a_successor_has_the_number_of_its_predecessor() -> None:
    numbers = WorkerNumbers()
    for pid in (11, 12):
        fork(numbers, pid)
    assert fork(numbers, 13, predecessor=11) == 1
    # A second worker in its place, such as one that was asked for by an operator, is no successor.
    assert fork(numbers, 14, predecessor=11) == 3
    numbers.free(11)
    assert fork(numbers, 15) == 4


def test_they_outlive_an_upgrade() -> None:
    numbers = WorkerNumbers()
    fork(numbers, 11)
    numbers.ask_for(numbers.choose())
    heir = WorkerNumbers()
    heir.adopt(json.loads(json.dumps(numbers.bequeath())))
    assert heir.of(11) == 1
    assert heir.choose() == 3
    WorkerNumbers().adopt({})
