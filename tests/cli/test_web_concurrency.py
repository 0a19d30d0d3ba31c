"""WEB_CONCURRENCY, by which hosting platforms tell each server how many workers it has room for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bridge_process import running_process
from tests.forked_command import run_command

SERVE = ("serve", "site_:app", "--control-socket", "none")


@pytest.fixture
def directory() -> Iterator[Path]:
    """With a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory() as path:
        (Path(path) / "site_.py").write_text("def app(environ, start_response):\n    pass\n")
        yield Path(path)


@pytest.mark.parametrize(
    ("environment", "file", "arguments", "workers"),
    [
        ({"WEB_CONCURRENCY": "3"}, "", (), 3),
        ({"WEB_CONCURRENCY": "3", "UWSGIBRIDGE_WORKERS": "1"}, "", (), 1),
        ({"WEB_CONCURRENCY": "3"}, "workers = 2\n", (), 2),
        ({"WEB_CONCURRENCY": "none"}, "", ("--workers", "1"), 1),
        ({"WEB_CONCURRENCY": "", "UWSGIBRIDGE_WORKERS": "1"}, "", (), 1),
    ],
)
def test_the_default_number_of_workers(
    directory: Path,
    environment: dict[str, str],
    file: str,
    arguments: tuple[str, ...],
    workers: int,
) -> None:
    (directory / "uwsgibridge.toml").write_text(file)
    with running_process(
        *SERVE, "--bind", "unix:s", *arguments,
        directory=directory, environment={"UWSGIBRIDGE_WORKERS": "", **environment},
    ) as process:  # fmt: skip
        assert process.events.wait(event="started")["workers"] == workers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "many",
            "WEB_CONCURRENCY in the environment, the default of --workers, is no whole number: 'many'",
        ),
        ("0", "must be at least 1 and at most 1000: '0'"),
        ("1001", "must be at least 1 and at most 1000: '1001'"),
    ],
)
def test_what_is_no_number_of_workers(directory: Path, text: str, said: str) -> None:
    status, output = run_command(
        *SERVE,
        directory=directory,
        environment={"UWSGIBRIDGE_WORKERS": "", "WEB_CONCURRENCY": text},
    )
    assert said in output
    assert status == 2
