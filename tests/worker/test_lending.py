"""When the loop lends its socket, where all threads are busy; `tests/fast/test_lending.py` has the rest, with real threads."""

from __future__ import annotations

from typing import Any, Final
from unittest.mock import Mock

import pytest

from uwsgibridge.worker.lending import Lending

MANY: Final = 1_000_000


def make_lending(*, has_waiter: bool, is_free: bool = True) -> tuple[Lending, Any, Any]:
    borrower = Mock(has_waiter=has_waiter, taken=0, accepted=0, is_lent=False, is_accepting=False)
    lender = Mock()
    lender.lendable.return_value = Mock() if is_free else None
    lending = Lending(
        lender,
        borrower,
        has_one_thread=False,
        listening=Mock(),
        intakes=Mock(),
        loop=Mock(),
        flights=Mock(),
    )
    return lending, lender, borrower


def ring(lending: Lending) -> None:
    lending._on_alarm()


def test_it_is_lent_to_a_thread_that_waits() -> None:
    lending, _, borrower = make_lending(has_waiter=True)
    ring(lending)
    borrower.lend.assert_called_once()


@pytest.mark.parametrize("begun", [0, MANY], ids=["slow", "quick"])
def test_it_is_lent_to_busy_threads_whose_requests_are_quick(begun: int) -> None:
    lending, _, borrower = make_lending(has_waiter=False)
    borrower.taken = begun
    ring(lending)
    assert borrower.lend.called == bool(begun)


def test_what_was_begun_before_the_last_look_does_not_count() -> None:
    lending, lender, borrower = make_lending(has_waiter=False, is_free=False)
    borrower.taken = MANY
    ring(lending)  # the loop has to decide now
    lender.lendable.return_value = Mock()
    ring(lending)
    borrower.lend.assert_not_called()


def test_what_threads_did_by_themselves_does_not_count() -> None:
    lending, _, borrower = make_lending(has_waiter=True)
    ring(lending)
    borrower.taken = MANY
    lending.take_back()
    borrower.lend.reset_mock()
    borrower.has_waiter = False
    ring(lending)
    borrower.lend.assert_not_called()


def test_a_look_that_fails_makes_the_next_one_no_later() -> None:
    lending, _, borrower = make_lending(has_waiter=False)
    for _ in range(3):
        ring(lending)
    seconds = {call.args[0] for call in borrower.set_alarm.call_args_list[-3:]}
    assert len(seconds) == 1
