"""The files of unix sockets: with the permissions that were asked for, never missing, and gone after."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.listening import opened, refusal
from tests.other_users import NOBODY, as_nobody, need_root, run_script
from uwsgibridge.config.address import AddressError, UnixAddress
from uwsgibridge.connection import unix_sockets


@pytest.mark.parametrize("mode", ["0600", "0660", "0666", "777"])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_unix_socket_has_the_mode_whatever_the_umask(directory: Path, mode: str, umask: int):
    path = directory / "app.sock"
    before = os.umask(umask)
    try:
        with opened(f"unix:{path}", mode=mode) as listening:
            status = path.stat()
            assert stat.S_ISSOCK(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == int(mode, 8)
            # The temporary name that it was bound under is not there any more.
            assert list(directory.iterdir()) == [path]
            assert listening.is_unix
            assert listening.address == UnixAddress(str(path))
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
    finally:
        os.umask(before)
    assert list(directory.iterdir()) == []


def test_a_unix_socket_may_have_a_relative_path(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(directory)
    with opened("unix:app.sock"):
        assert (directory / "app.sock").is_socket()
    assert list(directory.iterdir()) == []


def test_stale_socket_is_replaced(directory: Path):
    path = directory / "app.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        stale.listen()

    with opened(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))

    assert list(directory.iterdir()) == []


def test_path_is_never_without_a_socket_while_it_is_replaced(
    directory: Path, monkeypatch: pytest.MonkeyPatch
):
    path = directory / "app.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    unlink = Path.unlink

    def unlink_another(self: Path, *, missing_ok: bool = False) -> None:
        assert self != path
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(Path, "unlink", unlink_another)
        stack.enter_context(opened(f"unix:{path}"))
        patch.undo()
        assert path.is_socket()


def test_live_socket_is_refused_and_left_alone(directory: Path):
    path = directory / "app.sock"
    with opened(f"unix:{path}"):
        reason = refusal(f"unix:{path}")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))

    assert reason == f"unix:{path}: this process itself listens there; leave one of them out"


def test_live_socket_with_a_full_backlog_is_refused(directory: Path):
    path = directory / "app.sock"
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as clients:
        busy.bind(str(path))
        busy.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        reason = refusal(f"unix:{path}")

    assert "another process listens there" in reason


# In a process of root's that has no CAP_DAC_OVERRIDE (1) and no CAP_DAC_READ_SEARCH (2), as in a container. They
# are gone from an exec on that follows PR_CAPBSET_DROP (24).
WITHOUT_OVERRIDE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):
    assert libc.prctl(24, capability, 0, 0, 0) == 0, ctypes.get_errno()
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
"""
LISTENS = """
import sys
from uwsgibridge.errors import BindError
from uwsgibridge.connection.sockets import open_sockets
try:
    with open_sockets([sys.argv[1]], mode="0600", backlog=1):
        print("listens", end="")
except BindError as error:
    print(error, end="")
"""


@need_root
@pytest.mark.skipif(sys.platform != "linux", reason="drops capabilities")
@pytest.mark.parametrize("is_live", [False, True])
def test_socket_of_another_user_where_root_has_no_override(directory: Path, is_live: bool):
    path = directory / "app.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        path.chmod(0o660)
        os.chown(path, NOBODY, NOBODY)
        if is_live:
            other.listen()
        said = run_script(WITHOUT_OVERRIDE, LISTENS, f"unix:{path}")
    if is_live:
        # The credentials may not be asked for, or are those of this process.
        assert said.startswith(f"unix:{path}: another process listens there")
        assert said.endswith("; stop it, or use another path")
    else:
        assert said == "listens"


@need_root
def test_socket_that_may_not_be_connected_to_is_refused_as_what_it_is(directory: Path):
    path = directory / "app.sock"
    directory.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    path.chmod(0o600)
    with as_nobody():
        reason = refusal(f"unix:{path}")
    assert reason == (
        f"unix:{path}: nobody may not connect to the socket of root that is there, to learn whether somebody "
        "listens; remove it, or use another path"
    )


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_not_a_socket_is_refused_and_left_alone(directory: Path, kind: str):
    path = directory / "app.sock"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()

    assert "not a socket" in refusal(f"unix:{path}")
    assert path.is_dir() if kind == "directory" else path.read_text() == "precious"
    assert list(directory.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["socket", "file"])
def test_what_has_replaced_our_socket_is_left_alone(directory: Path, kind: str):
    path = directory / "app.sock"
    with opened(f"unix:{path}"):
        path.unlink()
        if kind == "file":
            path.write_text("of somebody else")
        else:
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(str(path))

    assert path.exists()


def test_socket_that_is_gone_already_is_no_failure(directory: Path):
    path = directory / "app.sock"
    with opened(f"unix:{path}"):
        path.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take less")
@pytest.mark.parametrize("size", range(100, 108))
def test_the_longest_path_is_listened_at(directory: Path, size: int):
    path = directory / ("s" * (size - len(str(directory)) - 1))
    assert len(str(path)) == size
    with opened(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert "this process itself listens there" in refusal(f"unix:{path}")
    assert list(directory.iterdir()) == []


def test_path_too_long_for_a_socket_is_refused(directory: Path):
    with (
        pytest.raises(AddressError, match="too long for a unix socket"),
        opened(f"unix:{directory / ('s' * 108)}"),
    ):
        raise AssertionError("it was opened")


def test_missing_directory_is_refused(directory: Path):
    path = directory / "missing" / "app.sock"
    assert f"there is no directory {path.parent}; create it" in refusal(f"unix:{path}")


def test_file_in_place_of_the_directory_is_refused(directory: Path):
    (directory / "file").write_text("")
    assert "file" in refusal(f"unix:{directory / 'file' / 'app.sock'}")


def test_directory_without_permission_is_refused(directory: Path):
    directory.chmod(0o555)
    with as_nobody():
        reason = refusal(f"unix:{directory / 'app.sock'}")

    assert f"no permission to create a socket in {directory}" in reason
    assert list(directory.iterdir()) == []


# Listens at one path after the other, each at the same moment as the others of its kind; tells where it does.
STARTER = r"""
import contextlib, os, sys
from multiprocessing import get_context
from uwsgibridge.errors import BindError
from uwsgibridge.connection.sockets import open_sockets

ROUNDS, COUNT = 30, 5

def start(barrier, directory):
    for number in range(ROUNDS):
        with contextlib.ExitStack() as stack:
            barrier.wait(20)
            try:
                stack.enter_context(
                    open_sockets([f"unix:{directory}/{number}"], mode="0600", backlog=5)
                )
                os.write(1, f"{number} serves\n".encode())
            except BindError as error:
                os.write(1, f"{number} {error}\n".encode())
            barrier.wait(20)

context = get_context("fork")
barrier = context.Barrier(COUNT)
starting = [context.Process(target=start, args=(barrier, sys.argv[1])) for _ in range(COUNT)]
for one in starting:
    one.start()
for one in starting:
    one.join()
"""


def test_of_several_that_start_at_once_one_serves(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = [line.split(" ", 1) for line in done.stdout.splitlines()]
    serving = [number for number, what in said if what == "serves"]
    assert sorted(map(int, serving)) == list(range(30))
    others = [what for _, what in said if what != "serves"]
    assert len(others) == 30 * 4
    assert all("another process listens there" in it for it in others)
    assert list(directory.iterdir()) == []


def test_who_holds_the_directory_keeps_nobody_from_listening(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_sockets, "_TURN_SECONDS", 0.01)
    held = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with opened(f"unix:{directory}/s"):
            pass
    finally:
        os.close(held)


@pytest.mark.parametrize("is_link", ["file", "directory"])
def test_a_link_into_a_directory_that_is_missing_names_that_directory(
    directory: Path, is_link: str
) -> None:
    missing = directory / "missing"
    path = directory / "link"
    path.symlink_to(missing / "app.sock" if is_link == "file" else missing)
    if is_link == "directory":
        path /= "app.sock"
    elif os.geteuid() != 0:
        pytest.skip("only root looks where the link of a socket leads")
    error = refusal(f"unix:{path}")
    assert f"unix:{path}: there is no directory {missing}; create it first" in error
