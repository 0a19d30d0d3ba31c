"""Stacks for the applications of this directory: a supervisor with a worker, on each loop of each application.

The packages come from the extra `applications`, which `make test-applications` installs. Where one is
missing its tests are skipped; with ``UWSGIBRIDGE_REQUIRE_APPLICATIONS=1`` that is a failure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.applications.sink import Sink
from integration.applications.site import PATIENCE_SECONDS, Kind, Site
from uwsgibridge.testing import LocalStack

if TYPE_CHECKING:
    from integration.applications.checks import Checks

pytest.register_assert_rewrite("integration.applications.checks")

REPOSITORY = Path(__file__).parents[2]
APPS = "integration.applications.apps"

REQUIRE_VARIABLE = "UWSGIBRIDGE_REQUIRE_APPLICATIONS"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames and metafunc.cls is not None:
        checks: type[Checks] = metafunc.cls
        metafunc.parametrize("kind", checks.kinds, ids=str, scope="class")


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    """What applications send telemetry to."""
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="class")
def running(
    request: pytest.FixtureRequest,
    kind: Kind,
    sink: Sink,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """An application of a class of checks; it is stopped at the end of the class."""
    checks: type[Checks] = request.cls
    with serving(checks, kind, tmp_path_factory.mktemp(checks.__name__), sink) as site:
        yield site


@pytest.fixture
def site(running: Site) -> Site:
    """The application, up: a test may have stopped it."""
    if running.stack.log.wait_ended(0):
        running.stack.start()
    return running


@contextlib.contextmanager
def serving(
    checks: type[Checks], kind: Kind, directory: Path, sink: Sink, *serve_args: str
) -> Iterator[Site]:
    """Run an application of a class of checks for as long as the block lasts.

    Args:
        checks: the class.
        kind: what it runs on.
        directory: of its own.
        sink: where it may send telemetry.
        serve_args: further arguments of ``uwsgibridge serve``; the last of an option counts.
    """
    _require(checks)
    control = directory / "control.sock"
    checks().prepare(directory)
    stack = LocalStack(
        f"{APPS}.{checks.app}",
        app_dir=REPOSITORY,
        socket=kind.socket,
        interface="wsgi" if kind.loop == "threads" else "asgi",
        loop="auto" if kind.loop == "threads" else kind.loop,
        serve_args=(
            *("--workers", "1", "--control-socket", str(control)),
            # Some import large modules at their first request, and the machine may be busy.
            *("--loop-block-warning-seconds", "0"),
            *checks.serve_args,
            *serve_args,
        ),
        environment={
            "APPLICATION_DIRECTORY": str(directory),
            "SINK_PORT": str(sink.port),
            # A setting of rich, by which some applications log.
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **{
                name: value.format(directory=directory)
                for name, value in checks.environment.items()
            },
        },
        site=checks.nginx,
        nginx_directives=checks.nginx_directives,
        start_timeout_seconds=PATIENCE_SECONDS,
        graceful_timeout_seconds=checks.graceful_timeout_seconds,
    )
    stack.start()
    try:
        yield Site(stack, kind, directory, control, sink)
    finally:
        stack.stop()


def _require(checks: type[Checks]) -> None:
    if checks.why_not:
        pytest.skip(checks.why_not)
    missing = [name for name in checks.needs if importlib.util.find_spec(name) is None]
    if not missing:
        return
    why = f"{', '.join(missing)} is not installed; `make test-applications` does it"
    if os.environ.get(REQUIRE_VARIABLE) == "1":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)
