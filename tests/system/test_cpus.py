"""The number of CPUs: trees as Linux shows them, and a process that is really bound to one CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uwsgibridge.system.cpus import usable_cpus

BOUND = 16
PATIENCE_SECONDS = 60.0

V2_MOUNT = "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu,cpuacct"


def v1_mount(top: str = "/", point: str = f"/{V1}") -> str:
    return f"34 30 0:30 {top} {point} rw,nosuid,nodev,noexec,relatime shared:14 - cgroup cgroup rw,cpu,cpuacct"


class Machine:
    """The files of a machine, or of a container, below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def process(self, *groups: str, mounts: tuple[str, ...]) -> None:
        others = (
            "22 27 0:21 / /proc rw,relatime - proc proc rw",
            "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard",
        )
        self.write("proc/self/cgroup", "".join(f"{it}\n" for it in groups))
        self.write("proc/self/mountinfo", "".join(f"{it}\n" for it in (*others, *mounts)))

    def v1_group(self, path: str, quota: int, period: int = 100_000) -> None:
        self.write(f"{path}/cpu.cfs_quota_us", f"{quota}\n")
        self.write(f"{path}/cpu.cfs_period_us", f"{period}\n")

    @property
    def cpus(self) -> int:
        return usable_cpus(root=self.root)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(BOUND)), raising=False)
    return Machine(tmp_path)


# Affinity.


def test_without_control_groups_it_is_the_affinity(machine: Machine):
    assert machine.cpus == BOUND


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_bound_to_one_cpu_has_one(tmp_path: Path):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from uwsgibridge.system.cpus import usable_cpus\n"
        "root = Path(sys.argv[1])\n"
        "print(usable_cpus(root=root))\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(usable_cpus(root=root), usable_cpus())\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert finished.stdout.split() == [str(len(os.sched_getaffinity(0))), "1", "1"]


def test_where_there_is_no_affinity_it_is_the_machine_s_cpus(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert machine.cpus == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cpus == 1


def test_affinity_that_must_not_be_asked_for(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    def refuse(_pid: int) -> set[int]:
        raise PermissionError

    monkeypatch.setattr(os, "sched_getaffinity", refuse)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert machine.cpus == 12


# Version 2.


@pytest.mark.parametrize(
    ("cpu_max", "cpus"),
    [
        ("max 100000", BOUND),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("100001 100000", 2),
        ("100000 100000", 1),
        ("5000 100000", 1),
        ("100000 25000", 4),
        ("9900000 100000", BOUND),
    ],
)
def test_v2_quota_holds_in_a_container_with_a_namespace_of_its_own(
    machine: Machine, cpu_max: str, cpus: int
):
    machine.process("0::/", mounts=(V2_MOUNT,))
    machine.write(f"{V2}/cpu.max", f"{cpu_max}\n")
    assert machine.cpus == cpus


@pytest.mark.parametrize(
    ("above", "own", "cpus"), [("300000", "max", 3), ("max", "200000", 2), ("300000", "500000", 3)]
)
def test_v2_the_least_quota_from_the_service_up_to_the_root_counts(
    machine: Machine, above: str, own: str, cpus: int
):
    machine.process("0::/system.slice/mysite.service", mounts=(V2_MOUNT,))
    machine.write(f"{V2}/system.slice/cpu.max", f"{above} 100000\n")
    machine.write(f"{V2}/system.slice/mysite.service/cpu.max", f"{own} 100000\n")
    machine.write(f"{V2}/user.slice/cpu.max", "100000 100000\n")  # of others
    assert machine.cpus == cpus


def test_v2_quota_holds_in_a_container_in_the_namespace_of_its_host(machine: Machine):
    group = "/system.slice/docker-7f3a.scope"
    machine.process(f"0::{group}", mounts=(V2_MOUNT.replace(" / /", f" {group} /"),))
    machine.write(f"{V2}/cpu.max", "200000 100000\n")
    assert machine.cpus == 2


@pytest.mark.parametrize(
    ("group", "top"),
    [
        ("/", "/.."),  # mounted from the namespace above
        ("/../other", "/"),  # the process was moved out of its namespace
        ("/kubepods/pod1/a", "/kubepods/pod2/b"),
        ("/system.slice/gone (deleted)", "/"),
    ],
)
def test_v2_group_that_is_not_visible_has_the_quota_of_the_mount_point(
    machine: Machine, group: str, top: str
):
    machine.process(f"0::{group}", mounts=(V2_MOUNT.replace(" / /", f" {top} /"),))
    machine.write(f"{V2}/cpu.max", "300000 100000\n")
    machine.write("sys/fs/other/cpu.max", "100000 100000\n")  # outside the mount point
    assert machine.cpus == 3


def test_v2_group_below_a_root_outside_the_namespace_is_visible(machine: Machine):
    machine.process("0::/../../pod/sibling", mounts=(V2_MOUNT.replace(" / /", " /../.. /"),))
    machine.write(f"{V2}/pod/sibling/cpu.max", "300000 100000\n")
    assert machine.cpus == 3


def test_v2_mount_of_another_container_says_nothing(machine: Machine):
    other = "90 27 0:26 /docker/other /var/lib/other rw shared:9 - cgroup2 cgroup2 rw"
    machine.process("0::/mysite", mounts=(V2_MOUNT, other))
    machine.write(f"{V2}/mysite/cpu.max", "400000 100000\n")
    machine.write("var/lib/other/cpu.max", "100000 100000\n")
    assert machine.cpus == 4


def test_mount_point_with_a_space_and_a_neighbour_that_is_not_utf8(machine: Machine):
    machine.write("proc/self/cgroup", "0::/my site\n")
    machine.write(
        "proc/self/mountinfo",
        b"40 27 8:1 / /mnt/caf\xe9 rw - ext4 /dev/sdb rw\n"
        b"41 27 0:26 / /mnt/control\\040groups rw - cgroup2 none rw\n",
    )
    machine.write("mnt/control groups/my site/cpu.max", "200000 100000\n")
    assert machine.cpus == 2


@pytest.mark.parametrize("space", ["\u00a0", "\u0085", "\u2028", "\x0b"])
def test_only_ascii_space_and_newline_end_a_field(machine: Machine, space: str):
    mount = V2_MOUNT.replace("/sys/fs/cgroup", f"/mnt/control{space}groups")
    machine.process(f"0::/my{space}site", mounts=(mount,))
    machine.write(f"mnt/control{space}groups/my{space}site/cpu.max", "200000 100000\n")
    assert machine.cpus == 2


# Version 1.


def test_v1_quota_holds_for_a_service_on_its_host(machine: Machine):
    machine.process(
        "12:memory:/system.slice/mysite.service",
        "4:cpu,cpuacct:/system.slice/mysite.service",
        "1:name=systemd:/system.slice/mysite.service",
        mounts=(
            "33 30 0:29 / /sys/fs/cgroup/memory rw,relatime shared:13 - cgroup cgroup rw,memory",
            v1_mount(),
        ),
    )
    machine.v1_group(V1, -1)
    machine.v1_group(f"{V1}/system.slice", 500_000)
    machine.v1_group(f"{V1}/system.slice/mysite.service", 125_000, 50_000)
    assert machine.cpus == 3


def test_v1_quota_of_a_group_above_holds(machine: Machine):
    machine.process("4:cpuacct,cpu:/kubepods/pod/web", mounts=(v1_mount(),))
    machine.v1_group(f"{V1}/kubepods/pod", 200_000)
    machine.v1_group(f"{V1}/kubepods/pod/web", -1)
    assert machine.cpus == 2


def test_v1_container_sees_its_group_at_the_mount_point(machine: Machine):
    machine.process("4:cpu,cpuacct:/docker/7f3a", mounts=(v1_mount(top="/docker/7f3a"),))
    machine.v1_group(V1, 250_000)
    assert machine.cpus == 3


def test_v1_controllers_of_similar_names_are_others(machine: Machine):
    machine.process(
        "5:cpuset:/",
        "4:cpuacct:/",
        mounts=("35 30 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset", v1_mount()),
    )
    machine.v1_group("sys/fs/cgroup/cpuset", 100_000)
    machine.v1_group(V1, 100_000)
    assert machine.cpus == BOUND


def test_v1_mounts_of_similar_names_are_others(machine: Machine):
    cpuset = "35 30 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset"
    machine.process("4:cpu,cpuacct:/", mounts=(v1_mount(), cpuset))
    machine.v1_group("sys/fs/cgroup/cpuset", 100_000)
    assert machine.cpus == BOUND


def test_quotas_of_both_versions_hold(machine: Machine):
    machine.process(
        "4:cpu,cpuacct:/mysite",
        "0::/mysite",
        mounts=(v1_mount(), V2_MOUNT.replace(f"/{V2}", f"/{V2}/unified")),
    )
    machine.v1_group(f"{V1}/mysite", 300_000)
    assert machine.cpus == 3
    machine.write(f"{V2}/unified/mysite/cpu.max", "200000 100000\n")
    assert machine.cpus == 2


# What can't be read.


@pytest.mark.parametrize(
    "cpu_max",
    [b"", b"\n", b"max", b"100000", b"100000 0", b"0 100000", b"-1 -1", b"1e5 100000", b"1 2 3", b"\xff 1"],
)  # fmt: skip
def test_v2_odd_quota_is_none(machine: Machine, cpu_max: bytes):
    machine.process("0::/mysite", mounts=(V2_MOUNT,))
    machine.write(f"{V2}/cpu.max", "500000 100000\n")
    machine.write(f"{V2}/mysite/cpu.max", cpu_max)
    assert machine.cpus == 5


@pytest.mark.parametrize(
    ("quota", "period"),
    [
        (b"-1", b"100000"),
        (b"0", b"100000"),
        (b"100000", b"0"),
        (b"100000", b""),
        (b"", b"100000"),
        (b"100000 100000", b"100000"),
        (b"max", b"100000"),
        (b"\xff", b"100000"),
    ],
)
def test_v1_odd_quota_is_none(machine: Machine, quota: bytes, period: bytes):
    machine.process("4:cpu,cpuacct:/mysite", mounts=(v1_mount(),))
    machine.v1_group(V1, 500_000)
    machine.write(f"{V1}/mysite/cpu.cfs_quota_us", quota)
    machine.write(f"{V1}/mysite/cpu.cfs_period_us", period)
    assert machine.cpus == 5


def test_quota_without_period_is_none(machine: Machine):
    machine.process("4:cpu,cpuacct:/", mounts=(v1_mount(),))
    machine.write(f"{V1}/cpu.cfs_quota_us", "100000\n")
    assert machine.cpus == BOUND


def test_file_that_is_a_directory_is_none(machine: Machine):
    machine.process("0::/", mounts=(V2_MOUNT,))
    (machine.root / V2 / "cpu.max").mkdir(parents=True)
    assert machine.cpus == BOUND


@pytest.mark.parametrize(
    ("cgroup", "mountinfo"),
    [
        (b"0::/\n", b""),
        (b"", V2_MOUNT.encode()),
        (b"\xff\n:\n::\n1\n1::/\n", V2_MOUNT.encode()),
        (
            b"0::/\n",
            b"\n - \n1 2 3 - cgroup2\n29 23 0:26 / sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        ),
        (b"0::/\n", b"29 23 0:26 / /sys/fs/cgroup rw cgroup2 cgroup2 rw\n"),
        (b"0::/\n", b"29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2\n"),
    ],
)
def test_odd_lists_name_no_group(machine: Machine, cgroup: bytes, mountinfo: bytes):
    machine.write("proc/self/cgroup", cgroup)
    machine.write("proc/self/mountinfo", mountinfo)
    machine.write(f"{V2}/cpu.max", "100000 100000\n")
    assert machine.cpus == BOUND


@pytest.mark.parametrize("path", [b"", b"no-slash", b"/a\0b", b"/\xff"])
def test_odd_path_of_a_group_is_taken_for_one_that_is_not_visible(machine: Machine, path: bytes):
    machine.write("proc/self/cgroup", b"0::" + path + b"\n")
    machine.write("proc/self/mountinfo", V2_MOUNT)
    machine.write(f"{V2}/cpu.max", "300000 100000\n")
    assert machine.cpus == 3
