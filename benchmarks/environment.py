"""What the figures were measured on: versions, machine, and the kernel's limits that they depend on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.servers import version
from uwsgibridge.fast import accelerator_state

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from benchmarks.servers import Server
    from benchmarks.workloads import Trial, Workload

_VERSION_SECONDS = 10.0

_BACKLOG = 2048
"""Listen queue asked of each server, where the kernel allows as much."""


# What the applications of the workloads are made with.
_FRAMEWORKS = ("flask", "django", "fastapi")


def describe(
    servers: Collection[Server], workloads: Iterable[Workload | Trial], *, nginx: str, wrk: str
) -> dict[str, str]:
    """Return names and versions of everything that has a part in the figures, and how busy the machine was before."""
    packages = dict.fromkeys(package for server in servers for package in server.packages)
    apps = dict.fromkeys(workload.app for workload in workloads)
    packages.update(dict.fromkeys(app for app in apps if app in _FRAMEWORKS))
    return {
        "machine": machine(),
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "accelerator": accelerator_state,
        "nginx": _asked(nginx, "-v", pattern=r"nginx/(\S+)"),
        # It has no option for its version alone; -v prints it, then the usage, and exits with 1.
        "wrk": _asked(wrk, "-v", pattern=r"^wrk (\S+)"),
        **{package: version(package) or "missing" for package in packages},
    }


def machine() -> str:
    """Name the processor, how many there are, and the kernel."""
    return f"{_cpu_model()}, {os.cpu_count()} CPUs, Linux {platform.release()}"


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
