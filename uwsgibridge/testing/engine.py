"""Whether a Docker engine can be used here, and why not."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from typing import Final

# Answers are a matter of milliseconds; an engine that is only being started is none.
_ANSWER_SECONDS: Final = 10

REQUIRE_VARIABLE: Final = "UWSGIBRIDGE_REQUIRE_DOCKER"


def is_required() -> bool:
    """Whether the environment says that tests without an engine are a failure."""
    return os.environ.get(REQUIRE_VARIABLE, "") not in {"", "0"}


def docker_command() -> str:
    """Give the ``docker`` program's path; the bare name where it is not installed."""
    return shutil.which("docker") or "docker"


@functools.cache
def why_no_engine() -> str | None:
    """Ask the engine and the ``docker`` command once.

    Returns:
        A sentence that says what is missing; None where containers can be run.
    """
    try:
        import docker
    except ImportError:
        return "the Python package docker is missing: pip install 'uwsgibridge[testing]'"
    try:
        docker.from_env(timeout=_ANSWER_SECONDS).close()
    except docker.errors.DockerException as error:
        return f"no Docker engine answers: {error}"
    try:
        subprocess.run(  # noqa: S603 - a fixed command
            (docker_command(), "compose", "version"),
            check=True,
            capture_output=True,
            timeout=_ANSWER_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"there is no docker command with Compose v2: {error}"
    return None
