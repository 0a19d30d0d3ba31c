"""Where the control socket is without an option: only in a directory that nobody else can reach."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from uwsgibridge.control.path import (
    default_control_path,
    directories_passed_over,
    find_control_sockets,
    remove_stale_sockets,
)

NOBODY = 65_534


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files, and no runtime directory."""
    with tempfile.TemporaryDirectory() as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        yield Path(path)


@pytest.fixture
def runtime(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory beside it."""
    path = temporary / "run"
    path.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


def own_directory(temporary: Path) -> Path:
    return temporary / f"uwsgibridge-{os.geteuid()}"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_runtime_directory_goes_before(runtime: Path, temporary: Path) -> None:
    assert default_control_path(42) == runtime / "uwsgibridge" / "42.sock"
    assert mode_of(runtime / "uwsgibridge") == 0o700
    assert not own_directory(temporary).exists()


def test_without_one_it_is_the_directory_for_temporary_files(temporary: Path) -> None:
    assert default_control_path(42) == own_directory(temporary) / "42.sock"
    assert mode_of(own_directory(temporary)) == 0o700
    assert default_control_path(43) == own_directory(temporary) / "43.sock"  # it is there by now


@pytest.mark.parametrize("value", ["", "relative", "/nonexistent/run/user/0"])
def test_a_runtime_directory_that_is_none(
    value: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(temporary)
    (temporary / "relative").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert default_control_path(42) == own_directory(temporary) / "42.sock"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_the_runtime_directory_of_another_user_is_not_used(runtime: Path, temporary: Path) -> None:
    """As root has it after sudo -E: the user could put a link in the way."""
    os.chown(runtime, 65_534, 65_534)
    assert default_control_path(42) == own_directory(temporary) / "42.sock"
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("mode", [0o701, 0o750, 0o777, 0o500])
def test_a_directory_with_another_mode_is_not_used(mode: int, temporary: Path) -> None:
    own_directory(temporary).mkdir()
    own_directory(temporary).chmod(mode)
    assert default_control_path(42) is None


def test_a_link_is_not_used(temporary: Path) -> None:
    (temporary / "elsewhere").mkdir(mode=0o700)
    own_directory(temporary).symlink_to(temporary / "elsewhere")
    assert default_control_path(42) is None
    with listen(temporary / "elsewhere" / "42.sock"):
        assert find_control_sockets() == []


def test_a_file_is_not_used(temporary: Path) -> None:
    own_directory(temporary).write_text("")
    own_directory(temporary).chmod(0o700)
    assert default_control_path(42) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_another_user_s_directory_is_not_used(temporary: Path) -> None:
    with listen(default_control_path(42)):
        os.chown(own_directory(temporary), NOBODY, NOBODY)
        assert find_control_sockets() == []
    assert default_control_path(42) is None


def test_a_path_that_is_too_long_is_not_used(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = temporary / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert default_control_path(42) == own_directory(temporary) / "42.sock"


def test_nothing_is_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    def gettempdir() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert default_control_path(42) is None
    assert find_control_sockets() == []


# What is said of it.


def test_nothing_is_said_of_what_can_be_used(temporary: Path, runtime: Path) -> None:
    assert directories_passed_over() == []
    default_control_path(42)
    assert directories_passed_over() == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda it: it.write_text(""), "it is no directory"),
        (lambda it: it.mkdir(mode=0o755), "its mode is 755, not 700"),
        (lambda it: it.symlink_to("/"), "it is no directory"),
    ],
)
def test_directory_that_is_passed_over_is_named(
    make: Callable[[Path], object], said: str, temporary: Path
) -> None:
    make(own_directory(temporary))
    (sentence,) = directories_passed_over()
    assert sentence.startswith(f"{own_directory(temporary)}: {said}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_owner_of_a_directory_that_is_passed_over_is_named(runtime: Path, temporary: Path) -> None:
    own_directory(temporary).mkdir(mode=0o700)
    os.chown(own_directory(temporary), NOBODY, NOBODY)
    os.chown(runtime, NOBODY, NOBODY)
    assert [it.partition(" belongs to ")[0::2] for it in directories_passed_over()] == [
        (f"{runtime}: it", f"nobody (user {NOBODY})"),
        (
            f"{own_directory(temporary)}: it",
            f"nobody (user {NOBODY}), who could pose as the supervisor",
        ),
    ]


def test_path_that_is_too_long_is_said(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = temporary / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    (sentence,) = directories_passed_over(42)
    assert f"{long}/uwsgibridge/42.sock is too long" in sentence


# Finding.


def listen(path: Path | None) -> socket.socket:
    assert path is not None
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(0)
    return listening


def test_those_that_somebody_listens_on_are_found_and_others_removed(temporary: Path) -> None:
    assert find_control_sockets() == []
    stale = default_control_path(41)
    listen(stale).close()
    with listen(default_control_path(43)), listen(default_control_path(42)):
        directory = own_directory(temporary)
        (directory / "file.sock").write_text("no socket")
        with listen(directory / "42.sock.123"):  # as it is called before it is accessible
            assert find_control_sockets() == [directory / "42.sock", directory / "43.sock"]
    assert stale is not None
    assert not stale.exists()
    assert (directory / "file.sock").exists()


def test_what_dead_supervisors_have_left_is_removed_and_nothing_else(
    runtime: Path, temporary: Path
) -> None:
    own_directory(temporary).mkdir(mode=0o700)
    alive, dead = default_control_path(os.getpid()), default_control_path(42)
    assert alive is not None
    listen(dead).close()
    # The number of a process that there is by now, and the other directory.
    listen(alive.with_name("1.sock")).close()
    listen(own_directory(temporary) / "43.sock").close()
    # No process here has that number, but somebody listens.
    elsewhere = alive.with_name("4194305.sock")
    named = alive.with_name("mysite.sock")
    listen(named).close()
    file = alive.with_name("44.sock")
    file.write_text("no socket")
    with listen(alive), listen(elsewhere):
        remove_stale_sockets()
        assert set(alive.parent.iterdir()) == {alive, elsewhere, named, file}
        assert list(own_directory(temporary).iterdir()) == []


def test_nothing_is_removed_where_others_may_enter(temporary: Path) -> None:
    stale = default_control_path(42)
    assert stale is not None
    listen(stale).close()
    own_directory(temporary).chmod(0o701)
    remove_stale_sockets()
    assert stale.exists()


def test_what_can_not_be_removed_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlink(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    stale = default_control_path(42)
    assert stale is not None
    listen(stale).close()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", unlink)
        remove_stale_sockets()
    assert stale.exists()
    assert stale.parent == own_directory(temporary)


def test_one_that_is_too_busy_to_accept_is_found(temporary: Path) -> None:
    path = default_control_path(42)
    with listen(path):
        for _ in range(3):  # each look leaves a connection in the queue
            assert find_control_sockets() == [path]


def test_a_service_without_a_runtime_directory_is_found_from_a_shell_that_has_one(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listen(default_control_path(42)):
        (temporary / "run").mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(temporary / "run"))
        assert find_control_sockets() == [own_directory(temporary) / "42.sock"]
        assert not (temporary / "run" / "uwsgibridge").exists()  # a look makes nothing
