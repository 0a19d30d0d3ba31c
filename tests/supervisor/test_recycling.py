"""Recycling: the limits that a worker gets, what it says when it is over one, and who goes first."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge.supervisor.recycling import Candidate, RecyclingPolicy, WorkerLimits

MIB = 1_048_576


def make_policy(**options: float) -> RecyclingPolicy:
    return RecyclingPolicy(chance=random.Random(5), **options)  # type: ignore[arg-type]  # a table's


def reason(
    policy: RecyclingPolicy,
    *,
    requests: int = 0,
    age_seconds: float = 0.0,
    rss_bytes: int | None = None,
) -> str | None:
    return policy.reason_to_recycle(
        policy.limits_for_new_worker(),
        requests=requests,
        age_seconds=age_seconds,
        rss_bytes=rss_bytes,
    )


def test_without_options_a_worker_goes_on_for_ever() -> None:
    policy = make_policy()
    assert policy.limits_for_new_worker() == WorkerLimits(0, 0.0)
    assert reason(policy, requests=10**9, age_seconds=10.0**9, rss_bytes=10**15) is None
    assert policy.reason_to_kill(10**15) is None


def test_a_worker_is_recycled_after_its_requests() -> None:
    policy = make_policy(max_requests=1000)
    assert reason(policy, requests=999, age_seconds=1e9, rss_bytes=10**15) is None
    assert reason(policy, requests=1000) == "1,000 requests (--max-requests)"
    assert reason(policy, requests=1017) == "1,017 requests (--max-requests)"


def test_a_worker_is_recycled_at_its_age() -> None:
    policy = make_policy(worker_lifetime_seconds=3600.0)
    assert reason(policy, requests=10**9, age_seconds=3599.9, rss_bytes=10**15) is None
    assert reason(policy, age_seconds=3600.0) == "3,600 s old (--worker-lifetime-seconds)"


def test_a_worker_is_recycled_for_its_memory() -> None:
    policy = make_policy(max_rss_bytes=300 * MIB)
    assert reason(policy, requests=10**9, age_seconds=1e9, rss_bytes=300 * MIB) is None
    assert reason(policy, rss_bytes=300 * MIB + 4096) == (
        "314,576,896 bytes of memory (--max-rss-bytes)"
    )
    assert policy.reason_to_kill(10**15) is None


def test_memory_that_is_not_known_is_no_reason() -> None:
    policy = make_policy(max_rss_bytes=1, max_rss_hard_bytes=1)
    assert reason(policy, rss_bytes=None) is None
    assert policy.reason_to_kill(None) is None


def test_the_hard_limit_kills() -> None:
    policy = make_policy(max_rss_hard_bytes=MIB)
    assert policy.reason_to_kill(MIB) is None
    assert policy.reason_to_kill(MIB + 1) == "1,048,577 bytes of memory (--max-rss-hard-bytes)"
    assert reason(policy, rss_bytes=10**15) is None


def test_of_several_reasons_one_is_told() -> None:
    policy = make_policy(max_requests=10, worker_lifetime_seconds=10.0, max_rss_bytes=10)
    assert reason(policy, requests=10, age_seconds=10.0, rss_bytes=11) == (
        "10 requests (--max-requests)"
    )
    assert reason(policy, requests=9, age_seconds=10.0, rss_bytes=11) == (
        "10 s old (--worker-lifetime-seconds)"
    )


def test_each_worker_has_limits_of_its_own() -> None:
    policy = make_policy(
        max_requests=1000,
        max_requests_jitter=3,
        worker_lifetime_seconds=60.0,
        worker_lifetime_jitter_seconds=30.0,
    )
    drawn = [policy.limits_for_new_worker() for _ in range(200)]
    assert {it.requests for it in drawn} == {1000, 1001, 1002, 1003}
    lifetimes = [it.lifetime_seconds for it in drawn]
    assert 60.0 <= min(lifetimes) < 65.0
    assert 85.0 < max(lifetimes) <= 90.0
    assert len(set(lifetimes)) == len(drawn)


def test_the_same_chance_draws_the_same_limits() -> None:
    options = {"max_requests": 1, "max_requests_jitter": 10**9}
    one, other = make_policy(**options), make_policy(**options)
    assert one.limits_for_new_worker() == other.limits_for_new_worker()
    assert one.limits_for_new_worker() != make_policy(**options).limits_for_new_worker()


def test_jitter_alone_is_no_limit() -> None:
    policy = make_policy(max_requests_jitter=10, worker_lifetime_jitter_seconds=10.0)
    assert policy.limits_for_new_worker() == WorkerLimits(0, 0.0)


def test_a_worker_is_held_to_its_own_limits() -> None:
    policy = make_policy(max_requests=10, worker_lifetime_seconds=10.0)
    limits = WorkerLimits(requests=12, lifetime_seconds=14.0)
    over_the_options = {"requests": 11, "age_seconds": 13.0, "rss_bytes": None}
    assert policy.reason_to_recycle(limits, **over_the_options) is None  # type: ignore[arg-type]
    assert policy.reason_to_recycle(limits, requests=12, age_seconds=0.0, rss_bytes=None)
    assert policy.reason_to_recycle(limits, requests=0, age_seconds=14.0, rss_bytes=None)


@pytest.mark.parametrize(
    ("candidates", "pid"),
    [
        ([], None),
        ([Candidate(7, 5.0)], 7),
        ([Candidate(7, 5.0), Candidate(9, 3.0), Candidate(8, 4.0)], 9),
        ([Candidate(9, 3.0), Candidate(7, 3.0), Candidate(8, 3.0)], 7),
    ],
)
def test_who_is_due_for_longest_goes_first(candidates: list[Candidate], pid: int | None) -> None:
    policy = make_policy()
    assert policy.choose(candidates) == pid
    assert policy.choose(reversed(candidates)) == pid


@given(
    max_requests=st.integers(1, 10**6),
    jitter=st.integers(0, 10**6),
    lifetime_seconds=st.floats(0.001, 1e6),
    jitter_seconds=st.floats(0.0, 1e6),
)
def test_jitter_only_adds(
    max_requests: int, jitter: int, lifetime_seconds: float, jitter_seconds: float
) -> None:
    limits = make_policy(
        max_requests=max_requests,
        max_requests_jitter=jitter,
        worker_lifetime_seconds=lifetime_seconds,
        worker_lifetime_jitter_seconds=jitter_seconds,
    ).limits_for_new_worker()
    assert max_requests <= limits.requests <= max_requests + jitter
    assert lifetime_seconds <= limits.lifetime_seconds <= lifetime_seconds + jitter_seconds
