"""Stacks for the applications of this directory, each over TCP and over a unix socket."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from integration.wsgi.apps.checked import COMPLAINTS

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

REPOSITORY = Path(__file__).parents[2]
APPS = "integration.wsgi.apps"

# No two pieces of it that lie next to each other are equal.
PATTERN = struct.pack(">750000I", *range(750_000))


def mount(*applications: str) -> tuple[str, ...]:
    """Make arguments of `serve`, from ``/prefix=module:name``."""
    arguments = []
    for one in applications:
        prefix, _, app = one.partition("=")
        arguments += ["--mount", f"{prefix}={APPS}.{app}"]
    return tuple(arguments)


def assert_no_complaints(stack: LocalStack) -> None:
    """Neither of the linters around an application has anything to say (see `apps.checked`)."""
    complaints = [
        line for line in stack.bridge_log.splitlines() if any(text in line for text in COMPLAINTS)
    ]
    assert complaints == []


@pytest.fixture(scope="session", params=["tcp", "unix"])
def socket_kind(request: pytest.FixtureRequest) -> str:
    """How Nginx reaches the bridge."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def options(socket_kind: str) -> dict[str, Any]:
    """What all stacks have in common."""
    return {
        "app_dir": REPOSITORY,
        "socket": socket_kind,
        "environment": {"PYTHONWARNINGS": "always"},
    }


@pytest.fixture(scope="session")
def serve(
    options: dict[str, Any], local_stack: Callable[..., LocalStack]
) -> Callable[..., LocalStack]:
    """Start a stack with an application of this directory, such as ``flask_app:application``."""

    def serve(app: str, *, environment: dict[str, str] | None = None, **more: Any) -> LocalStack:
        variables = {**options["environment"], **(environment or {})}
        return local_stack(f"{APPS}.{app}", **{**options, **more, "environment": variables})

    return serve


@pytest.fixture
def serve_alone(options: dict[str, Any]) -> Callable[..., LocalStack]:
    """Make a stack for one test alone, which starts and stops it by `with`."""

    def serve_alone(app: str, **more: Any) -> LocalStack:
        from uwsgibridge.testing import LocalStack

        return LocalStack(f"{APPS}.{app}", **{**options, **more})

    return serve_alone


@pytest.fixture(scope="session")
def exercise_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where applications find files and keep what they are given."""
    directory = tmp_path_factory.mktemp("exercises")
    for name in ("flask", "git", "django", "files"):
        (directory / name).mkdir()
    (directory / "flask" / "pattern.bin").write_bytes(PATTERN)
    return directory


@pytest.fixture
def browser() -> Iterator[requests.Session]:
    """A client with cookies of its own, which speaks to nobody but the address that it is given."""
    with requests.Session() as session:
        session.trust_env = False
        yield session
