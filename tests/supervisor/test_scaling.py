"""Scaling: when workers are added, when they are taken away, and what the log says of it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge.supervisor.scaling import Load, ScalingPolicy, Step

QUEUE_SECONDS = 0.1
GROW_AFTER_SECONDS = 5.0
IDLE_SECONDS = 30.0
PLACES = 8  # of a worker


def make_policy(minimum: int = 2, maximum: int = 10) -> ScalingPolicy:
    return ScalingPolicy(
        minimum,
        maximum,
        queue_seconds=QUEUE_SECONDS,
        grow_after_seconds=GROW_AFTER_SECONDS,
        idle_seconds=IDLE_SECONDS,
    )


def load(
    workers: int = 4,
    *,
    starting: int = 0,
    waiting: int = 0,
    queue_seconds: float = 0.0,
    in_flight: int = 16,
) -> Load:
    return Load(
        workers=workers,
        starting=starting,
        waiting=waiting,
        queue_seconds=queue_seconds,
        in_flight=in_flight,
        capacity=workers * PLACES,
    )


def steps(policy: ScalingPolicy, looks: Iterable[tuple[float, Load]]) -> list[tuple[float, Step]]:
    """Give the steps that were taken, each with its time."""
    decided = [(now, policy.decide(seen, now)) for now, seen in looks]
    return [(now, step) for now, step in decided if step is not None]


def every_second(seen: Load, *, of: range) -> list[tuple[float, Load]]:
    return [(float(now), seen) for now in of]


BUSY = load()  # half of the places in use
PRESSED = load(waiting=1, in_flight=32)
IDLE = load(in_flight=1)


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (load(waiting=1), Step(5, "1 connection waits in the backlog")),
        (load(waiting=8), Step(5, "8 connections wait in the backlog")),
        (load(waiting=9), Step(6, "9 connections wait in the backlog")),
        (load(waiting=17), Step(7, "17 connections wait in the backlog")),
        (load(waiting=1234), Step(8, "1,234 connections wait in the backlog")),  # at most doubled
        (load(6, waiting=1234), Step(10, "1,234 connections wait in the backlog")),  # the maximum
        (load(9, waiting=17), Step(10, "17 connections wait in the backlog")),
        (load(queue_seconds=0.314), Step(5, "requests wait 0.31 s")),
        (load(queue_seconds=0.314, in_flight=0), Step(5, "requests wait 0.31 s")),
        (load(waiting=2, queue_seconds=9), Step(5, "2 connections wait in the backlog")),
        (load(1, waiting=1), Step(2, "1 connection waits in the backlog")),
        (Load(workers=4, waiting=2), Step(6, "2 connections wait in the backlog")),  # no capacity told
        (load(queue_seconds=QUEUE_SECONDS), None),  # not above the limit
        (load(in_flight=32), None),  # all places in use, but nobody waits
        (load(10, waiting=99), None),
        (load(12, waiting=99), None),
        (load(0, waiting=99, in_flight=0), None),  # to replace dead workers is another's affair
        (load(starting=1, waiting=99), None),
    ],
)  # fmt: skip
def test_pressure_that_lasts_adds_workers(seen: Load, step: Step | None) -> None:
    taken = steps(make_policy(), every_second(seen, of=range(6)))
    assert taken == ([] if step is None else [(5.0, step)])


@pytest.mark.parametrize(
    ("seen", "workers"),
    [
        (load(4, in_flight=12), 3),  # half of what remains
        (load(4, in_flight=13), None),
        (load(3, in_flight=8), 2),
        (load(3, in_flight=9), None),
        (load(2, in_flight=0), None),  # the minimum
        (load(1, in_flight=0), None),
        (load(10, in_flight=0), 9),
        (load(4, in_flight=0, waiting=1), None),
        (load(4, in_flight=0, starting=1), None),
        (load(12, in_flight=0), 10),  # more than the maximum
        (load(0, in_flight=0), None),
    ],
)
def test_idleness_that_lasts_removes_a_worker(seen: Load, workers: int | None) -> None:
    policy = make_policy() if not seen.waiting else make_policy(maximum=seen.workers)
    taken = steps(policy, every_second(seen, of=range(31)))
    assert [(now, step.workers) for now, step in taken] == ([(30.0, workers)] if workers else [])


def test_the_reason_tells_the_busiest_look() -> None:
    policy = make_policy()
    looks = [*every_second(IDLE, of=range(10)), (10.0, load(in_flight=3))]
    taken = steps(policy, [*looks, *every_second(IDLE, of=range(11, 31))])
    assert taken == [(30.0, Step(3, "idle: at most 3 of 32 places in use for 30 s"))]
    # It is the busiest of this period, not of the one before.
    fewer = load(3, in_flight=1)
    assert steps(policy, every_second(fewer, of=range(31, 62))) == [
        (61.0, Step(2, "idle: at most 1 of 24 places in use for 30 s"))
    ]


def test_idle_workers_go_one_by_one() -> None:
    policy = make_policy()
    workers = 5
    at = []
    for now in range(200):
        step = policy.decide(load(workers, in_flight=0), float(now))
        if step:
            at.append(now)
            assert step.workers == workers - 1
            workers = step.workers
    # Each after a full period with the number before.
    assert at == [30, 61, 92]
    assert workers == 2


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(BUSY, id="no pressure"),
        pytest.param(load(waiting=1, starting=1), id="a worker starts"),
        pytest.param(load(3, waiting=1), id="a worker is gone"),
        pytest.param(load(5, waiting=1), id="a worker was added"),
    ],
)
def test_pressure_has_to_last_without_a_break(between: Load) -> None:
    policy = make_policy()
    looks = [
        *every_second(PRESSED, of=range(5)),
        (5.0, between),
        *every_second(PRESSED, of=range(6, 12)),
    ]
    assert [now for now, _ in steps(policy, looks)] == [11.0]


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(BUSY, id="busy"),
        pytest.param(load(waiting=1, in_flight=0), id="a connection waits"),
        pytest.param(load(queue_seconds=0.2, in_flight=0), id="a request waited"),
        pytest.param(load(starting=1, in_flight=0), id="a worker starts"),
        pytest.param(load(3, in_flight=0), id="a worker is gone"),
        pytest.param(load(5, in_flight=0), id="a worker was added"),
    ],
)
def test_idleness_has_to_last_without_a_break(between: Load) -> None:
    policy = make_policy()
    looks = [
        *every_second(IDLE, of=range(30)),
        (30.0, between),
        *every_second(IDLE, of=range(31, 62)),
    ]
    assert [now for now, _ in steps(policy, looks)] == [61.0]


def test_one_kind_of_pressure_continues_another() -> None:
    policy = make_policy()
    slow = load(queue_seconds=0.5)
    looks = [*every_second(PRESSED, of=range(3)), *every_second(slow, of=range(3, 6))]
    assert steps(policy, looks) == [(5.0, Step(5, "requests wait 0.50 s"))]


def test_a_step_begins_both_periods_anew() -> None:
    # The new worker is not there yet, and not seen to start either.
    policy = make_policy()
    taken = steps(policy, every_second(PRESSED, of=range(12)))
    assert [now for now, _ in taken] == [5.0, 11.0]
    taken = steps(make_policy(), every_second(IDLE, of=range(62)))
    assert [now for now, _ in taken] == [30.0, 61.0]


def test_a_long_backlog_doubles_the_workers_step_by_step() -> None:
    policy = make_policy(minimum=1, maximum=12)
    workers, numbers = 1, []
    for now in range(60):
        step = policy.decide(load(workers, waiting=500), float(now))
        if step:
            workers = step.workers
            numbers.append(workers)
    assert numbers == [2, 4, 8, 12]


def test_workers_added_by_hand_stay_for_a_full_period() -> None:
    """Idle at the minimum for hours: a worker more is not taken away at once."""
    policy = make_policy(minimum=2)
    assert not steps(policy, every_second(load(2, in_flight=0), of=range(1000)))
    taken = steps(policy, every_second(load(3, in_flight=0), of=range(1000, 1031)))
    assert [now for now, _ in taken] == [1030.0]


def test_too_few_grow_to_the_minimum_at_least() -> None:
    taken = steps(make_policy(minimum=5), every_second(load(2, waiting=1), of=range(6)))
    assert taken == [(5.0, Step(5, "1 connection waits in the backlog"))]


def test_without_a_period_the_first_look_counts() -> None:
    policy = ScalingPolicy(1, 4, queue_seconds=0.1, grow_after_seconds=0.0, idle_seconds=0.0)
    assert policy.decide(load(2, waiting=1), 0.0) == Step(3, "1 connection waits in the backlog")
    assert policy.decide(load(2, in_flight=0), 1.0) == Step(
        1, "idle: at most 0 of 16 places in use for 0 s"
    )


BOUNDS = st.tuples(st.integers(1, 20), st.integers(0, 20)).map(lambda it: (it[0], sum(it)))
LOADS = st.builds(
    Load,
    workers=st.integers(0, 45),
    starting=st.sampled_from((0, 0, 0, 1)),
    waiting=st.sampled_from((0, 0, 1, 40, 100_000)),
    queue_seconds=st.sampled_from((0.0, 0.0, 0.5)),
    in_flight=st.integers(0, 400),
    capacity=st.integers(0, 400),
)


@given(
    bounds=BOUNDS,
    runs=st.lists(st.tuples(LOADS, st.integers(1, 9), st.floats(0.0, 20.0)), max_size=20),
)
def test_whatever_is_seen_the_number_stays_in_its_bounds(
    bounds: tuple[int, int], runs: list[tuple[Load, int, float]]
) -> None:  # the same load for some looks, so that periods can pass
    policy = make_policy(*bounds)
    now, last_step_at = 0.0, 0.0
    for seen, looks, interval_seconds in runs:
        for _ in range(looks):
            now += interval_seconds
            step = policy.decide(seen, now)
            if step is None:
                continue
            assert bounds[0] <= step.workers <= bounds[1]
            assert not seen.starting
            if step.workers > seen.workers:
                assert seen.waiting or seen.queue_seconds > QUEUE_SECONDS
                assert step.workers <= max(2 * seen.workers, bounds[0])
                needed_seconds = GROW_AFTER_SECONDS
            else:
                assert step.workers == min(seen.workers - 1, bounds[1])
                assert not seen.waiting
                needed_seconds = IDLE_SECONDS
            assert now - last_step_at >= needed_seconds
            last_step_at = now


@given(
    bounds=BOUNDS,
    start=st.integers(0, 20),
    places=st.integers(1, 64),
    demand=st.integers(0, 500),
    interval_seconds=st.floats(0.5, 10.0),
)
def test_under_a_constant_load_it_settles(
    bounds: tuple[int, int], start: int, places: int, demand: int, interval_seconds: float
) -> None:
    """A number of requests that always want a place: it only grows, or only shrinks, and then stays."""
    minimum, maximum = bounds
    policy = make_policy(minimum, maximum)
    workers = min(minimum + start, maximum)
    directions, changed_at, now = set(), 0.0, 0.0
    while now - changed_at <= 2 * IDLE_SECONDS + 20:
        capacity = workers * places
        seen = Load(
            workers=workers,
            waiting=max(demand - capacity, 0),
            in_flight=min(demand, capacity),
            capacity=capacity,
        )
        step = policy.decide(seen, now)
        if step:
            directions.add(step.workers > workers)
            workers, changed_at = step.workers, now
        now += interval_seconds
    assert len(directions) <= 1
    # Enough for everybody, and no more than twice as many, within the bounds.
    assert workers >= min(math.ceil(demand / places), maximum)
    assert workers == minimum or (workers - 1) * places < 2 * demand
