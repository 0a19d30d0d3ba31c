"""A process forks, whatever warnings do."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator

import pytest

from uwsgibridge.system.forking import fork_process


@pytest.fixture
def _beside_a_thread() -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def _raised_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each Python warn of threads as 3.15 does; others don't raise where warnings are errors."""
    fork = os.fork

    def warned() -> int:
        if child := fork():
            warnings.warn(
                "This process (pid=1) is multi-threaded, use of fork() may lead to deadlocks in the child.",
                DeprecationWarning,
                stacklevel=2,
            )
        return child

    monkeypatch.setattr(os, "fork", warned)


def check_fork() -> None:
    filters = list(warnings.filters)
    if (child := fork_process()) == 0:
        os._exit(0 if warnings.filters == filters else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert warnings.filters == filters


@pytest.mark.usefixtures("_beside_a_thread")
def test_threads_raise_nothing_where_warnings_are_errors() -> None:
    check_fork()


@pytest.mark.usefixtures("_raised_afterwards")
def test_what_this_python_does_not_raise_is_caught_as_well() -> None:
    check_fork()


def test_what_warns_for_another_reason_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def warned() -> int:
        warnings.warn("this fork is old", DeprecationWarning, stacklevel=2)
        return 1

    monkeypatch.setattr(os, "fork", warned)
    with pytest.warns(DeprecationWarning, match="this fork is old"):
        assert fork_process() == 1
