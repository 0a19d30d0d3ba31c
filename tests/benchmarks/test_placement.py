"""The server gets a CPU for itself where there is more than one, and the report says so."""

from __future__ import annotations

import pytest

from benchmarks.placement import choose_placement


@pytest.mark.parametrize(
    ("usable", "server", "load", "said"),
    [
        ({0, 1}, {1}, {0}, "The server is pinned to CPU 1, Nginx and wrk to CPU 0."),
        ({2, 4, 6}, {6}, {2, 4}, "The server is pinned to CPU 6, Nginx and wrk to CPU 2, 4."),
    ],
)
def test_the_server_gets_the_last_cpu_and_the_load_the_others(
    usable: set[int], server: set[int], load: set[int], said: str
) -> None:
    placement = choose_placement(usable)
    assert set(placement.server) == server
    assert set(placement.load) == load
    assert str(placement) == said


def test_on_a_single_cpu_all_share_it_and_the_report_warns() -> None:
    placement = choose_placement({3})
    assert placement.server == placement.load == {3}
    assert "share CPU 3" in str(placement)
