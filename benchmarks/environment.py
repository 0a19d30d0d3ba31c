"""What the figures were measured on: versions, machine, and the kernel's limits that they depend on."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.servers import version

if TYPE_CHECKING:
    from collections.abc import Collection

    from benchmarks.servers import App, Server

_VERSION_SECONDS = 10.0

_BACKLOG = 2048
"""Listen queue asked of each server, where the kernel allows as much."""


def describe(servers: Collection[Server], app: App, *, nginx: str, wrk: str) -> dict[str, str]:
    """Return names and versions of everything that has a part in the figures."""
    packages = dict.fromkeys(package for server in servers for package in server.packages)
    if app != "hello":
        packages[app] = None
    return {
        "machine": f"{_cpu_model()}, Linux {platform.release()}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "nginx": _asked(nginx, "-v", pattern=r"nginx/(\S+)"),
        # It has no option for its version alone; -v prints it, then the usage, and exits with 1.
        "wrk": _asked(wrk, "-v", pattern=r"^wrk (\S+)"),
        **{package: version(package) or "missing" for package in packages},
    }


def listen_backlog(connections: int) -> int:
    """Return the listen queue's length for the servers.

    Raises:
        BenchmarkError: the kernel's limit lets connections be refused, which Nginx would answer with 502.
    """
    somaxconn = int(Path("/proc/sys/net/core/somaxconn").read_text())
    if somaxconn < connections:
        raise BenchmarkError(
            f"{connections} connections are more than the kernel lets wait on one socket ({somaxconn}):"
            f" sysctl net.core.somaxconn={connections}, or a smaller --connections."
        )
    return min(_BACKLOG, somaxconn)


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _asked(program: str, option: str, *, pattern: str) -> str:
    done = subprocess.run(
        [program, option], capture_output=True, text=True, check=False, timeout=_VERSION_SECONDS
    )
    found = re.search(pattern, done.stdout + done.stderr, re.MULTILINE)
    return found[1] if found else "of unknown version"
