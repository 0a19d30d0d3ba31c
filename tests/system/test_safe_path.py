"""Root's way to a file: what it follows, where it stops, and what it knows of the place it has reached."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from uwsgibridge.system.safe_path import (
    Place,
    UnsafePathError,
    acting_as,
    exposure_of,
    give_held,
    open_place,
)

NOBODY = 65_534
UNNAMED = 54_321

need_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to look where it goes")


@pytest.fixture
def ground() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


def owned(path: Path, uid: int, mode: int = 0o755, gid: int | None = None) -> Path:
    path.mkdir(exist_ok=True)
    os.chown(path, uid, uid if gid is None else gid)
    path.chmod(mode)
    return path


def reach(path: Path | str) -> tuple[Place, Path]:
    """Give the place, and where its descriptor leads to."""
    with open_place(path) as place:
        return place, Path(f"/proc/self/fd/{place.directory}").readlink()


def test_an_ordinary_path_leads_to_its_place(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ground / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(ground / "a")
    for path in (ground / "a" / "b" / "file", "b/file", "./b/file", "../a/b/file", "b//file"):
        place, directory = reach(path)
        assert (place.name, directory) == ("file", ground / "a" / "b")
        assert place.exposed is None
    assert reach("file")[1] == ground / "a"


def test_descriptor_is_closed(ground: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    for path in ("file", "gone/file", "loop/file", "loop"):
        (ground / "loop").unlink(missing_ok=True)
        (ground / "loop").symlink_to("loop")
        with contextlib.suppress(OSError), open_place(ground / path):
            pass
    assert set(Path("/proc/self/fd").iterdir()) == before


@need_root
def test_links_of_root_are_followed(ground: Path) -> None:
    (ground / "real").mkdir()
    (ground / "real" / "up").symlink_to("../real")
    (ground / "absolute").symlink_to(ground / "real")
    (ground / "relative").symlink_to("./real/../absolute")
    (ground / "file").symlink_to("relative/up/new")
    for path in ("absolute/new", "relative/new", "relative/up/up/new", "file"):
        place, directory = reach(ground / path)
        assert (place.name, directory, place.exposed) == ("new", ground / "real", None)
        assert place.is_roots_alone


@need_root
@pytest.mark.parametrize("path", ["loop", "loop/file", "one/file"])
def test_links_that_lead_to_each_other_are_refused(ground: Path, path: str) -> None:
    (ground / "loop").symlink_to("loop")
    (ground / "one").symlink_to("two")
    (ground / "two").symlink_to("one")
    with pytest.raises(OSError) as raised, open_place(ground / path):
        pass
    assert raised.value.errno == errno.ELOOP


@need_root
@pytest.mark.parametrize("path", ["theirs/link/file", "theirs/link", "theirs/below/link/file"])
def test_links_that_another_user_can_have_made_are_not_followed(ground: Path, path: str) -> None:
    theirs = owned(ground / "theirs", NOBODY)
    owned(theirs / "below", 0)  # which the user can move away
    for directory in (theirs, theirs / "below"):
        (directory / "link").symlink_to("/etc")
    with pytest.raises(UnsafePathError, match=f"nobody can change {theirs}.* name the place"):
        reach(ground / path)


@need_root
@pytest.mark.parametrize("owner", [0, NOBODY])
def test_a_link_in_a_directory_of_all_is_followed_where_root_made_it(
    ground: Path, owner: int
) -> None:
    """As the kernel has it with fs.protected_symlinks."""
    tmp = owned(ground / "tmp", 0, 0o1777)
    (tmp / "link").symlink_to(ground)
    os.chown(tmp / "link", owner, owner, follow_symlinks=False)
    if owner == 0:
        assert reach(tmp / "link" / "file")[1] == ground
        return
    with pytest.raises(UnsafePathError, match=f"does not follow the link {tmp}/link of nobody"):
        reach(tmp / "link" / "file")


@need_root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "exposed"),
    [
        (0, 0, 0o755, None),
        (0, 0, 0o775, None),
        (0, UNNAMED, 0o755, None),
        (0, UNNAMED, 0o775, f"the group {UNNAMED} can change"),
        (0, 0, 0o777, "everybody can change"),
        (NOBODY, 0, 0o700, "nobody can change"),
        (UNNAMED, 0, 0o700, f"user {UNNAMED} can change"),
        (0, 0, 0o1777, None),
    ],
)
def test_who_else_can_change_a_place(
    ground: Path, owner: int, group: int, mode: int, exposed: str | None
) -> None:
    directory = owned(ground / "it", owner, mode, group)
    owned(directory / "below", 0)
    for path in (directory / "file", directory / "below" / "file"):
        place, _ = reach(path)
        assert place.exposed == (None if exposed is None else f"{exposed} {directory}")
    place, _ = reach(directory / "file")
    assert place.is_shared is (mode == 0o1777)
    assert place.is_roots_alone is (exposed is None and mode != 0o1777)


@need_root
def test_nobody_can_change_what_is_read_only(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = owned(ground / "mounted", 0, 0o777)
    real = os.fstatvfs

    def fstatvfs(descriptor: int) -> object:
        found = real(descriptor)
        here = Path(f"/proc/self/fd/{descriptor}").readlink()
        if here != directory:
            return found
        return type("Found", (), {"f_flag": found.f_flag | os.ST_RDONLY})()

    monkeypatch.setattr(os, "fstatvfs", fstatvfs)
    assert reach(directory / "file")[0].exposed is None


@need_root
def test_links_of_the_kernel_are_left_to_the_kernel() -> None:
    place, _ = reach("/dev/stdin")
    assert place.is_kernels
    assert place.name == "0"


@need_root
def test_root_acts_as_another_user_and_back(ground: Path) -> None:
    before = os.geteuid(), os.getegid(), os.getgroups()
    theirs = owned(ground / "theirs", NOBODY)
    with contextlib.suppress(KeyError), acting_as(NOBODY, UNNAMED):
        (theirs / "file").touch()
        with pytest.raises(PermissionError):
            (ground / "file").touch()
        raise KeyError
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before
    found = (theirs / "file").stat()
    assert (found.st_uid, found.st_gid) == (NOBODY, UNNAMED)


@need_root
def test_what_is_held_is_given_whatever_its_path_leads_to(ground: Path) -> None:
    (ground / "file").touch()
    (ground / "other").touch()
    held = os.open(ground / "file", os.O_PATH)
    try:
        (ground / "file").rename(ground / "moved")
        (ground / "file").symlink_to("other")
        give_held(held, NOBODY, -1)
    finally:
        os.close(held)
    assert (ground / "moved").stat().st_uid == NOBODY
    assert (ground / "other").stat().st_uid == 0


def test_exposure_is_said_of_files_as_well(ground: Path) -> None:
    (ground / "file").touch()
    (ground / "file").chmod(0o666)
    found = (ground / "file").stat()
    assert stat.S_ISREG(found.st_mode)
    assert (exposure_of(found, "it") or "").endswith("can change it")
