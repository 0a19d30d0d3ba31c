"""The pytest plugin: stacks that start once for a whole run, and their logs where a test fails.

Pytest loads the plugin wherever uwsgibridge is installed. It does nothing until a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

if TYPE_CHECKING:
    from uwsgibridge.testing.compose_stack import ComposeStack
    from uwsgibridge.testing.local_stack import LocalStack
    from uwsgibridge.testing.log_stream import LogStream


# How long a stack's label is. Options may be long, but the first ones tell stacks apart.
_LABEL_CHARACTERS: Final = 80


class _Stack(Protocol):
    def start(self) -> None: ...
    def stop(self) -> int: ...
    @property
    def log(self) -> LogStream: ...


class _Stacks:
    """The stacks of a run, by the arguments that they were asked for with."""

    def __init__(self) -> None:
        self._started: dict[str, _Stack] = {}
        self._seen: dict[str, int] = {}

    def start(self, make: Callable[..., _Stack], *arguments: Any, **options: Any) -> _Stack:
        key = f"{make.__name__}{arguments}{sorted(options.items())}"
        if key not in self._started:
            stack = make(*arguments, **options)
            stack.start()
            self._started[key] = stack
        return self._started[key]

    def begin_test(self) -> None:
        self._seen = {key: stack.log.line_count() for key, stack in self._started.items()}

    def logs_of_test(self) -> Iterator[tuple[str, str]]:
        for key, stack in self._started.items():
            written = stack.log.text(since_line=self._seen.get(key, 0))
            if written:
                yield key[:_LABEL_CHARACTERS], written

    def stop(self) -> None:
        # All stacks are stopped at once, since a stop mostly waits.
        with ThreadPoolExecutor() as pool:
            stopping = [pool.submit(stack.stop) for stack in self._started.values()]
        self._started.clear()
        for one in stopping:
            one.result()


_STACKS = pytest.StashKey[_Stacks]()


@pytest.fixture(scope="session")
def _running_stacks(request: pytest.FixtureRequest) -> Iterator[_Stacks]:
    stacks = request.config.stash[_STACKS]
    yield stacks
    stacks.stop()


@pytest.fixture(scope="session")
def local_stack(_running_stacks: _Stacks) -> Callable[..., LocalStack]:
    """Start a `LocalStack`, or give a running one with the same arguments; all stop at the end of the run."""
    from uwsgibridge.testing.local_stack import LocalStack

    def start(*arguments: Any, **options: Any) -> LocalStack:
        stack = _running_stacks.start(LocalStack, *arguments, **options)
        assert isinstance(stack, LocalStack)
        return stack

    return start


@pytest.fixture(scope="session")
def compose_stack(_running_stacks: _Stacks) -> Callable[..., ComposeStack]:
    """Start a `ComposeStack` from a checkout of uwsgibridge (`project_dir`), as `local_stack` does.

    Without an engine the test is skipped, or fails where UWSGIBRIDGE_REQUIRE_DOCKER=1 is set.
    """
    from uwsgibridge.testing.engine import REQUIRE_VARIABLE, is_required, why_no_engine

    missing = why_no_engine()
    if missing:
        if is_required():
            pytest.fail(f"{REQUIRE_VARIABLE} is set, but {missing}", pytrace=False)
        pytest.skip(f"needs Docker: {missing}")
    from uwsgibridge.testing.compose_stack import ComposeStack

    def start(*arguments: Any, **options: Any) -> ComposeStack:
        stack = _running_stacks.start(ComposeStack, *arguments, **options)
        assert isinstance(stack, ComposeStack)
        return stack

    return start


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STACKS] = _Stacks()


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[_STACKS].begin_test()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for key, written in item.config.stash[_STACKS].logs_of_test():
            report.sections.append((f"log of {key}", written))
    return report
