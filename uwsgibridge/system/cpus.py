"""Counts the CPUs that the process may use, by its affinity and the quotas of its control groups (Linux)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from uwsgibridge.quick_dataclass import dataclass

# Characters that would end a field of mountinfo are written in octal (proc(5)).
_ESCAPED: Final = r"\\([0-7]{3})"


def usable_cpus(*, root: Path = Path("/")) -> int:
    """Count the CPUs that this process may keep busy.

    Linux: cgroups(7), proc(5), and the kernel's cgroup-v2.rst and sched-bwc.rst. Elsewhere there are no
    such files, and the count is that of the machine.

    Args:
        root: where ``proc`` and the mount points of the control groups are looked for.

    Returns:
        The least of the CPUs that the process is bound to and of the quotas of its control group and
        of each group above; a quota of one and a half CPUs counts as 2. At least 1.
    """
    return min([_bound_cpus(), *_quotas(root)])


def _bound_cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS has no such call, and a sandbox may refuse it
        return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class _Mount:
    """A place where control groups with CPU quotas are visible.

    Attributes:
        version: of the control groups, 1 or 2.
        top: the group that is seen at the mount point.
        point: the mount point.
    """

    version: int
    top: PurePosixPath
    point: PurePosixPath

    def shows(self, group: PurePosixPath) -> bool:
        """Whether the group has a directory here."""
        # A group outside the process's cgroup namespace is written with "..": cgroup_namespaces(7).
        return group.is_relative_to(self.top) and ".." not in group.relative_to(self.top).parts


def _quotas(root: Path) -> Iterator[int]:
    mounts = list(_mounts(_text(root / "proc/self/mountinfo")))
    for version, group in _groups(_text(root / "proc/self/cgroup")):
        of_version = [mount for mount in mounts if mount.version == version]
        for directory in _directories(of_version, group):
            limit = _quota(root / directory.relative_to("/"), version)
            if limit is not None:
                yield limit


def _groups(text: str) -> Iterator[tuple[int, PurePosixPath]]:
    """Read /proc/self/cgroup: the groups that may limit the CPU, each with its version."""
    for line in text.split("\n"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            yield 2, PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            yield 1, PurePosixPath(path)


def _mounts(text: str) -> Iterator[_Mount]:
    """Read /proc/self/mountinfo: id, parent, device, root, mount point ... - type, source, options."""
    for line in text.split("\n"):
        place, _, system = line.partition(" - ")
        before, after = place.split(" "), system.split(" ")
        if len(before) < 5 or len(after) < 3 or not before[4].startswith("/"):
            continue
        top, point = (PurePosixPath(_unescape(it)) for it in before[3:5])
        if after[0] == "cgroup2":
            yield _Mount(2, top, point)
        elif after[0] == "cgroup" and "cpu" in after[2].split(","):
            yield _Mount(1, top, point)


def _directories(mounts: list[_Mount], group: PurePosixPath) -> Iterator[PurePosixPath]:
    """Give the directories of the group and of those above it, as far up as they are mounted."""
    found = [(it.point, group.relative_to(it.top)) for it in mounts if it.shows(group)]
    # Some container runtimes mount control groups from within another namespace. Then the group at the mount
    # point is the nearest one to ours. The last mount counts, since it hides those before it.
    for point, below in found or [(it.point, PurePosixPath()) for it in mounts[-1:]]:
        for directory in (below, *below.parents):
            yield point / directory


def _quota(directory: Path, version: int) -> int | None:
    """Give the CPUs that a group may use, rounded up; None where it has no limit of its own."""
    if version == 2:
        numbers = _text(directory / "cpu.max").split()
    else:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        numbers = [_text(directory / name).strip() for name in names]
    try:
        quota, period = map(int, numbers)
    except ValueError:  # "max 100000", no file, or a file of another form
        return None
    return -(-quota // period) if quota > 0 and period > 0 else None


def _text(file: Path) -> str:
    try:
        # Paths may be any bytes; bytes that are not UTF-8 survive as surrogates.
        return file.read_text("utf-8", "surrogateescape")
    except (OSError, ValueError):
        return ""


def _unescape(field: str) -> str:
    return re.sub(_ESCAPED, lambda found: chr(int(found[1], 8)), field)
