"""What holds for all tests, wherever they are run."""

from __future__ import annotations

import os
import re
import signal
import zlib
from collections import Counter
from typing import Final

import pytest

from uwsgibridge import fast

# Parts of the identifier of a test that say on which event loop and over which socket its case runs, whether with
# the accelerator, and, of a test of processes, by which interface they serve and how their workers come to be.
_COMBINED: Final = frozenset(
    {
        *("asyncio", "uvloop", "trio", "tcp", "unix", "accelerated", "pure"),
        *("as_wsgi", "as_asgi", "forked", "preloaded", "unsupervised"),
    }
)

# The modules that take longest, which begin first: else one of them would go on alone at the end. Those whose containers start
# again and again stand apart: several of them at a time leave none of the containers the processor.
_LONGEST: Final = (
    "integration/test_compose_workers.py",
    "integration/test_worker_life.py",
    "integration/test_broken_upgrades.py",
    "tests/worker/test_process.py",
    "integration/test_compose_processes.py",
    "integration/test_reloading.py",
    "tests/worker/test_started_at_import.py",
    "integration/asgi/test_clients_that_leave.py",
    "integration/test_compose_users.py",
    "integration/test_lost_sockets.py",
    "integration/test_forked_children.py",
    "integration/test_lifecycle.py",
)

# Another number is another choice of combinations, and with an odd one, processes have no accelerator;
# `.ci/run` takes one for each of its runs.
ROTATION_VARIABLE: Final = "UWSGIBRIDGE_TEST_ROTATION"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--all-combinations``."""
    parser.addoption(
        "--all-combinations",
        action="store_true",
        help="run each case on every event loop and socket, not on one of the combinations in turn",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "each(*parameters): runs on each value of these, which are no combinations there"
    )
    if _rotation() % 2 and not getattr(config.option, "numprocesses", None):
        # The processes that tests start serve without the accelerator then. This one, of which xdist has
        # several, has chosen before, and its tests go both ways.
        os.environ.setdefault(fast.PURE_VARIABLE, "1")
    # A shell without job control starts what it puts into the background with both ignored (POSIX, 2.11),
    # the programs that tests start inherit that, and a shell among them can't even trap them.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


# After pytest's own, which brings the cases with the same fixtures together and is led astray by cases that
# are then left out.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one combination of event loop and socket for each case, the next one for the next case.

    A test whose combinations go through code of their own names these parameters in ``mark.each``. Who names a test by its whole identifier gets that one. Cases of a module or a class that share a stack
    follow each other: else it would be started for each of them.
    """
    is_named = any("[" in argument for argument in config.args)
    if not (config.getoption("--all-combinations") or is_named):
        _keep_one_combination(config, items)
    places = _Places()
    for name in _LONGEST:
        places[config.rootpath / name]
    items.sort(
        key=lambda item: (places[item.path], places[_class_of(item)], places[_stack_of(item)])
    )


class _Places(dict[object, int]):
    """Numbers things in the order in which they are first asked for."""

    def __missing__(self, thing: object) -> int:
        place = self[thing] = len(self)
        return place


def _class_of(item: pytest.Item) -> object:
    return item.path, getattr(item, "cls", None)


def _stack_of(item: pytest.Item) -> object:
    """Give what says which stack serves the case: a parameter named ``kind``, if it has one."""
    callspec = getattr(item, "callspec", None)
    return _class_of(item), str(callspec.params.get("kind")) if callspec else None


def _keep_one_combination(config: pytest.Config, items: list[pytest.Item]) -> None:
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(_case(item), []).append(item)
    # Each function begins somewhere else, so that those with one case don't all take the first.
    rotation = _rotation()
    turn: Counter[str] = Counter()
    kept = set()
    for case, combinations in cases.items():
        function = case.partition("[")[0]
        start = zlib.crc32(_beginner(combinations[0]).encode()) + rotation
        kept.add(combinations[(start + turn[function]) % len(combinations)].nodeid)
        turn[function] += len(combinations) > 1
    left_out = [item for item in items if item.nodeid not in kept]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.nodeid in kept]


def _beginner(item: pytest.Item) -> str:
    """Name who begins at a place of its own in the combinations: a function, or a class that shares a stack."""
    function = item.nodeid.partition("[")[0]
    shares = getattr(item, "cls", None) is not None and "kind" in getattr(item, "fixturenames", ())
    return function.rpartition("::")[0] if shares else function


def _rotation() -> int:
    return int(os.environ.get(ROTATION_VARIABLE, "0"))


def _case(item: pytest.Item) -> str:
    function, bracket, parameters = item.nodeid.partition("[")
    given = item.callspec.params if isinstance(item, pytest.Function) and bracket else {}
    own = {str(given[name]) for marker in item.iter_markers("each") for name in marker.args}
    parts = re.split(r"([-\]])", parameters)
    return function + bracket + "".join("*" if part in _COMBINED - own else part for part in parts)
