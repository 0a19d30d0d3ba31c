"""The table of an exchange's states: each step in each state."""

from __future__ import annotations

from itertools import product
from typing import Final

import pytest

from uwsgibridge.hosts.exchange_states import FOLLOWING, Life, Step, follow

ALLOWED: Final[dict[tuple[Life, Step], Life]] = {
    (Life.RUNNING, Step.REPLACE): Life.REPLACED,
    (Life.RUNNING, Step.END): Life.ENDED,
    (Life.RUNNING, Step.RETURN): Life.RETURNED,
    (Life.REPLACED, Step.END): Life.ENDED,
    (Life.REPLACED, Step.RETURN): Life.RETURNED,
    (Life.ENDED, Step.RETURN): Life.OVER,
    (Life.RETURNED, Step.END): Life.OVER,
}

PAIRS: Final = [
    pytest.param(life, step, id=f"{step.name}-{life.name}".lower())
    for life, step in product(Life, Step)
]


@pytest.mark.parametrize(("life", "step"), PAIRS)
def test_a_step_leads_on_or_is_a_bug_that_is_named(life: Life, step: Step) -> None:
    if (life, step) in ALLOWED:
        assert FOLLOWING[step][life] is follow(step, life) is ALLOWED[life, step]
        return
    assert life not in FOLLOWING[step]
    with pytest.raises(AssertionError) as caught:
        follow(step, life)
    assert str(caught.value) == f"Step.{step.name} is not allowed in Life.{life.name}"
