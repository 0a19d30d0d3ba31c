"""Keeps the running program's modules in memory, because an upgrade begins when their files are replaced already.

Where the new program dies in its start, the process becomes the old program again from this memory; see
`takeover_guard`.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.supervisor import takeover_guard
from uwsgibridge.supervisor.archive import write_archive
from uwsgibridge.supervisor.takeover_guard import Guard
from uwsgibridge.system.memory_file import make_memory_file
from uwsgibridge.system.signals import SERVER_SIGNALS

# How long the new program may take to take over. It only opens the descriptors that it gets before that.
TAKEOVER_SECONDS: Final = 60.0

_OWN_PACKAGE: Final = "uwsgibridge"

_TESTS: Final = frozenset({"tests", "_tests", "test", "__pycache__"})


@dataclass(frozen=True, slots=True)
class PreservedProgram:
    """The descriptors that a process needs to become the old program again.

    Attributes:
        code: a descriptor of a zip archive with the modules.
        guard: a descriptor of the text of `takeover_guard`.
    """

    code: int
    guard: int

    def start(self) -> tuple[list[str], dict[str, str]]:
        """Give the command that runs this process's command line under guard, and its environment."""
        told = {
            "arguments": sys.orig_argv,
            "code": self.code,
            "guard": self.guard,
            "signals": sorted(SERVER_SIGNALS),
            "seconds": TAKEOVER_SECONDS,
            "reason": "",
        }
        return (
            takeover_guard.command(sys.orig_argv, self.guard),
            {takeover_guard.VARIABLE: json.dumps(told)},
        )

    def close(self) -> None:
        """Close the descriptors at a stop, unless this process runs from the preserved modules."""
        guard = current_guard()
        if guard is None or guard.code != self.code:
            for descriptor in self.descriptors:
                os.close(descriptor)

    @property
    def descriptors(self) -> tuple[int, int]:
        """The descriptors that the guard has to inherit."""
        return self.code, self.guard


def preserve_program() -> PreservedProgram | None:
    """Read the modules of this program and of the packages that it needs; None where they can't be kept.

    Packages with extension modules in C stay on the disk. Of this package, only the accelerator stays there:
    the program runs without it, too.
    """
    guard = current_guard()
    if guard is not None and guard.reason:
        # This process runs from preserved modules already.
        return PreservedProgram(guard.code, guard.guard)
    if sys.platform != "linux":
        return None
    code = make_memory_file("uwsgibridge-program")
    text = make_memory_file("uwsgibridge-takeover")
    try:
        with os.fdopen(os.dup(code), "wb") as file:
            write_archive(file, _files())
        os.write(text, Path(takeover_guard.__file__).read_bytes())
    except (
        OSError,
        ValueError,
        struct.error,
    ):  # no memory, or the new version is being installed already
        os.close(code)
        os.close(text)
        return None
    return PreservedProgram(code, text)


def current_guard() -> Guard | None:
    """Give the guard that watches the start of this process, or has put this program back; None elsewhere."""
    guard: Guard | None = getattr(sys.modules.get(takeover_guard.MODULE), "guard", None)
    return guard


def confirm_takeover() -> None:
    """Say that this program serves, where one before it would be put back otherwise."""
    guard = current_guard()
    if guard is not None:
        guard.taken_over()


def _files() -> Iterator[tuple[str, str]]:
    """Give the path of each file to keep, and its name in the archive."""
    loaded = {it.partition(".")[0] for it in list(sys.modules)}
    for name in sorted(loaded - set(sys.stdlib_module_names) - {"__main__"}):
        module = sys.modules.get(name)
        if module is not None:
            yield from _files_of(module)


def _files_of(module: ModuleType) -> Sequence[tuple[str, str]]:
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py"):
        return ()
    path = Path(file)
    if path.name != "__init__.py":
        return ((file, path.name),)
    package = path.parent
    above = f"{package.parent}/"
    found = []
    # Not `Path.rglob`, which takes eight times as long.
    for directory, inside, names in os.walk(package):
        inside[:] = set(inside) - _TESTS
        for name in names:
            one = f"{directory}/{name}"
            if name.endswith(".py"):
                found.append((one, one.removeprefix(above)))
            elif name.endswith(".so") and package.name != _OWN_PACKAGE:
                return ()
    return found
