"""Whether a Docker engine can be used here, and why not."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
from typing import Final

# How long an engine may take to answer; it takes milliseconds.
_ANSWER_SECONDS: Final = 20

# The variable that says whether Docker is required (1), or must not be used although it is there (0).
REQUIRE_VARIABLE: Final = "UWSGIBRIDGE_REQUIRE_DOCKER"


def is_required() -> bool:
    """Whether tests fail without an engine, as the environment says."""
    return os.environ.get(REQUIRE_VARIABLE, "") not in {"", "0"}


def docker_command() -> str:
    """Give the ``docker`` program's path; the bare name where it is not installed."""
    return shutil.which("docker") or "docker"


@functools.cache
def why_no_engine() -> str | None:
    """Look once for the Python package, for Compose, and for an engine that answers.

    Returns:
        A sentence that says what is missing, or that the environment forbids Docker; None where containers
        can be run.
    """
    if os.environ.get(REQUIRE_VARIABLE) == "0":
        return f"{REQUIRE_VARIABLE}=0 leaves it out"
    if importlib.util.find_spec("docker") is None:
        return "the Python package docker is missing: pip install 'uwsgibridge[testing]'"
    if shutil.which("docker") is None:
        return "there is no docker command"
    return _ask("compose", "version") or _ask("version", "--format", "{{.Server.Version}}")


def _ask(*arguments: str) -> str | None:
    # The command asks, not the package, which leaves a socket open where nobody listens.
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands
            (docker_command(), *arguments),
            check=False,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"docker {arguments[0]} does not answer"
    return done.stderr.strip() or "docker failed" if done.returncode else None
