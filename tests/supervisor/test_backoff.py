"""How soon workers are replaced: at once, but not again and again."""

from __future__ import annotations

from collections.abc import Sequence

from uwsgibridge.supervisor.backoff import Backoff


class Pool:
    """Ends of workers at times of its own, and the pauses that come of them."""

    def __init__(self) -> None:
        self.backoff = Backoff()
        self.now = 1000.0

    def end(
        self, lived_seconds: float, others: Sequence[float] = (), *, after: float = 0.1
    ) -> float:
        """Have a worker end; the pause before the next one, 0 for none."""
        self.now += after
        self.backoff.record_crash(lived_seconds, others, self.now)
        return self.pause()

    def fail_to_start(self) -> float:
        """Have a worker end before it is ready."""
        self.backoff.record_failed_start()
        return self.pause()

    def pause(self) -> float:
        return self.backoff.start_pause() if self.backoff.reason else 0.0


def test_workers_that_do_not_come_up_are_tried_after_longer_and_longer() -> None:
    pool = Pool()
    pauses = [pool.fail_to_start() for _ in range(9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    pool.backoff.reset_if_stable()
    assert pool.fail_to_start() == 0.1


def test_a_few_short_lives_are_forgiven_and_then_pauses_grow() -> None:
    pool = Pool()
    pauses = []
    for _ in range(14):
        pauses.append(pool.end(0.2))
        pool.backoff.reset_if_stable()  # as each of them was
    assert pauses == [0, 0, 0, 0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_the_reason_names_number_and_time() -> None:
    backoff = Backoff()
    for _ in range(6):
        assert backoff.reason == ""
        backoff.record_crash(0.5, [], 1000.0)
    assert backoff.reason == "6 workers in a row ended within 1 s of being ready"


def test_many_that_end_together_are_one_step() -> None:
    pool = Pool()
    for _ in range(64):
        pool.backoff.record_crash(0.5, [], pool.now)
    assert [pool.pause(), pool.pause()] == [0.1, 0.0]


def test_an_end_after_a_longer_life_begins_anew() -> None:
    pool = Pool()
    for _ in range(8):
        pool.end(0.2)
    assert pool.end(1.0) == 0
    assert [pool.end(0.2) for _ in range(6)] == [0, 0, 0, 0, 0, 0.1]


def test_workers_killed_each_second_are_replaced_at_once_for_ever() -> None:
    pool = Pool()
    # Two workers, and the older one is killed: its life is what two seconds leave after its start.
    assert not any(pool.end(1.1, [0.4], after=1.0) for _ in range(30))


def test_a_successor_that_lives_longer_begins_anew() -> None:
    pool = Pool()
    for _ in range(8):
        pool.end(0.2)
    assert pool.end(0.2, [1.5], after=2.0) == 0


def test_one_that_has_lived_all_along_does_not() -> None:
    pool = Pool()
    pauses = [pool.end(0.2, [60.0 + step], after=1.0) for step in range(7)]
    assert pauses[1:] == [0, 0, 0, 0, 0.1, 0.2]


def test_all_are_ready_does_not_end_a_row_of_short_lives() -> None:
    pool = Pool()
    for _ in range(5):
        pool.end(0.2)
        pool.backoff.reset_if_stable()
    assert pool.fail_to_start() == 0.1
    pool.backoff.reset_if_stable()
    assert [pool.end(0.2), pool.end(0.2)] == [0.1, 0.2]


def test_other_times_and_other_patience_can_be_given() -> None:
    backoff = Backoff(short_life_seconds=10.0, short_lives_forgiven=0)
    pauses = []
    for now, lived_seconds in ((1000, 9), (1010, 9), (1100, 60), (1110, 9)):
        backoff.record_crash(lived_seconds, (), now)
        pauses.append(backoff.start_pause() if backoff.reason else 0)
    assert pauses == [0.1, 0.2, 0, 0.1]
