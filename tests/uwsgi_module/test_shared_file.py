"""Locks between processes and threads: who has one, who waits, and what the end of a process frees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from tests.log_events import PATIENCE_SECONDS
from tests.other_users import NOBODY, as_nobody, need_root
from uwsgibridge import Settings
from uwsgibridge.control.path import remove_control_directory
from uwsgibridge.supervisor.timers_sidecar import sharing_file
from uwsgibridge.uwsgi_module.place import SHARED_VARIABLE
from uwsgibridge.uwsgi_module.shared_file import SUFFIX, SharedFile, remove_unused

HOLDER = """
import sys
from uwsgibridge.uwsgi_module.shared_file import SharedFile
SharedFile(sys.argv[1]).lock(int(sys.argv[2]))
print("has it", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "shared")


@contextmanager
def another_process(path: str, number: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has a lock until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "has it\n"
        yield process


def lock_in_thread(shared: SharedFile, number: int) -> tuple[threading.Thread, threading.Event]:
    has_it = threading.Event()

    def lock() -> None:
        shared.lock(number)
        has_it.set()

    thread = threading.Thread(target=lock, daemon=True)
    thread.start()
    return thread, has_it


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_process_frees_its_locks(path: str, ending: signal.Signals) -> None:
    shared = SharedFile(path)
    with another_process(path, 0) as process:
        assert shared.is_locked(0)
        assert not shared.is_locked(1)
        thread, has_it = lock_in_thread(shared, 0)
        assert not has_it.wait(0.1)
        process.send_signal(ending)
        assert has_it.wait(PATIENCE_SECONDS)
        thread.join(PATIENCE_SECONDS)
    assert shared.is_locked(0)
    shared.unlock(0)
    assert not shared.is_locked(0)


def test_threads_exclude_each_other(path: str) -> None:
    shared = SharedFile(path)
    shared.lock(0)
    assert shared.is_locked(0)
    thread, has_it = lock_in_thread(shared, 0)
    assert not has_it.wait(0.1)
    shared.unlock(0)
    assert has_it.wait(PATIENCE_SECONDS)
    thread.join(PATIENCE_SECONDS)
    shared.unlock(0)  # any thread may
    assert not shared.is_locked(0)


def test_to_unlock_what_is_not_locked_does_nothing(path: str) -> None:
    shared = SharedFile(path)
    shared.unlock(0)
    with another_process(path, 0):
        shared.unlock(0)
        assert shared.is_locked(0)
        _, has_it = lock_in_thread(shared, 0)
        shared.unlock(0)
        assert not has_it.wait(0.1)
    assert has_it.wait(PATIENCE_SECONDS)


def test_a_child_has_no_lock_of_its_parent(path: str) -> None:
    shared = SharedFile(path)
    shared.lock(0)
    child = os.fork()
    if child == 0:
        try:
            shared.forget_locks()
            os._exit(0 if shared.is_locked(0) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shared.is_locked(0)


def test_the_last_minute_is_remembered(path: str) -> None:
    assert SharedFile(path).read_minute() is None
    SharedFile(path).write_minute(29_930_000)
    assert SharedFile(path).read_minute() == 29_930_000


def test_without_a_place_locks_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="set XDG_RUNTIME_DIR or TMPDIR"):
        SharedFile("").lock(0)
    SharedFile("").write_minute(1)
    assert SharedFile("").read_minute() is None
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeError, match="can't be opened"):
        SharedFile(str(tmp_path / "link")).lock(0)


def test_files_of_ended_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    for name in ("1.shared", "2.shared", "3.shared", "other"):
        (tmp_path / name).touch()
    mine = SharedFile(str(tmp_path / "2.shared"))
    assert not mine.is_locked(0)
    with another_process(str(tmp_path / "1.shared"), 0) as process:
        assert process.poll() is None
        child = os.fork()
        if child == 0:
            try:
                mine.forget_locks()
                remove_unused(tmp_path)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert {it.name for it in tmp_path.iterdir()} == {"1.shared", "2.shared", "other"}
    with another_process(str(tmp_path / "4.shared"), 0):
        pass
    SharedFile(str(tmp_path / "5.shared")).write_minute(1)
    remove_unused(tmp_path)
    assert not (tmp_path / "1.shared").exists()
    assert not (tmp_path / "4.shared").exists()


def test_the_file_of_a_server_keeps_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server that ends removes the directory where it is empty."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    monkeypatch.delenv(SHARED_VARIABLE, raising=False)
    with sharing_file(Settings(workers=1, uwsgi_module=True), is_upgrade=False):
        remove_control_directory()
        [path] = tmp_path.rglob(f"*{SUFFIX}")
        SharedFile(str(path)).lock(0)
    assert not list(tmp_path.rglob(f"*{SUFFIX}"))


@need_root
def test_the_file_is_that_of_the_user_that_the_server_becomes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv(SHARED_VARIABLE, raising=False)
    settings = Settings(workers=1, uwsgi_module=True, user=str(NOBODY))
    with (
        tempfile.TemporaryDirectory() as place,
        mock.patch.object(tempfile, "tempdir", place),
    ):
        Path(place).chmod(0o1777)
        with sharing_file(settings, is_upgrade=False):
            told = json.loads(os.environ[SHARED_VARIABLE])
            for path in (told["file"], Path(told["control"]).parent):
                assert Path(path).stat().st_uid == NOBODY
            with as_nobody():
                SharedFile(told["file"]).lock(0)
        assert os.geteuid() == 0
