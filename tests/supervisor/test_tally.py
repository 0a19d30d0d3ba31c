"""What a supervisor counts over all workers."""

from __future__ import annotations

import dataclasses
import json

from uwsgibridge.link.figures import Figures
from uwsgibridge.supervisor.tally import Tally

ENDED = Figures(
    requests=7, app_errors=2, client_gone=3, slow_requests=4, refused={"not_mounted": 1}
)
RUNNING = Figures(requests=5, app_errors=1, refused={"not_mounted": 2, "body_timeout": 1})
BOTH = Tally(
    crashed=1,
    requests=12,
    app_errors=3,
    client_gone=3,
    slow_requests=4,
    refused={"not_mounted": 3, "body_timeout": 1},
)


def test_workers_that_run_count_beside_those_that_have_ended() -> None:
    tally = Tally(crashed=1)
    tally.add(ENDED)
    assert tally.with_workers([RUNNING]) == BOTH
    assert tally.with_workers([]) == tally  # which have not been counted for good
    assert tally.refused == {"not_mounted": 1}


def test_it_goes_on_through_an_upgrade_to_another_version() -> None:
    told = json.loads(json.dumps(dataclasses.asdict(BOTH)))
    assert Tally.of_heritage(told) == BOTH
    assert Tally.of_heritage({"crashed": 4, "mood": "good"}) == Tally(crashed=4)
