"""Whether a service serves, in words; and its state as families."""

from __future__ import annotations

import pytest

from tests.figures.snapshots import service, worker
from uwsgibridge.figures.family import Sample
from uwsgibridge.figures.snapshot import Backlog, Snapshot, mounts_of
from uwsgibridge.figures.state_families import state_families


@pytest.mark.parametrize(
    ("snapshot", "serves", "why"),
    [
        (service(worker(1), worker(2, "busy")), True, "running: 2 of 2 workers serve"),
        (service(worker(1, "stuck"), worker(2)), True, "running: 1 of 2 workers serve"),
        (service(worker(1), state="reloading"), True, "reloading: 1 of 1 workers serve"),
        (
            service(worker(1, "starting"), worker(2, "starting"), worker(3, "stuck")),
            False,
            "no worker serves: 2 starting, 1 stuck",
        ),
        (service(state="starting"), False, "no worker serves: there is none"),
        (
            service(worker(1), state="draining"),
            False,
            "draining: requests are still answered, and the service stops soon",
        ),
        # They still run what they have.
        (service(worker(1), state="stopping"), False, "stopping: no new requests are accepted"),
    ],
)
def test_health(snapshot: Snapshot, serves: bool, why: str) -> None:
    assert snapshot.health() == (serves, why)


def test_what_is_not_known_has_no_sample() -> None:
    unknown = service(worker(1), backlogs=[Backlog(address="fd://3", waiting=None)])
    samples = {it.name: it.samples for it in state_families(unknown)}
    assert samples["uwsgibridge_backlog_connections"] == []
    assert samples["uwsgibridge_worker_resident_bytes"] == []


def test_a_worker_and_its_successor_are_one_series() -> None:
    both = service(
        worker(2, rss_bytes=5), worker(1, "stopping", rss_bytes=30), worker(1, rss_bytes=12)
    )
    samples = {it.name: it.samples for it in state_families(both)}
    assert samples["uwsgibridge_worker_resident_bytes"] == [
        Sample((("worker", "1"),), 42),
        Sample((("worker", "2"),), 5),
    ]


def test_mounts() -> None:
    assert mounts_of("site:app", ["/api=api:app"]) == ["/", "/api"]
    assert mounts_of(None, ["/=site:app"]) == ["/"]
