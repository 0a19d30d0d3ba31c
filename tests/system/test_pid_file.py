"""The pid file: a lock while the process runs, a number for who reads it, and nothing once it has ended."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bridge_process import BridgeProcess, run_to_its_end, running_process
from tests.other_users import NOBODY, as_nobody, names_in, need_root, run_script
from uwsgibridge.errors import (
    BindError,
    BridgeError,
    PidFileError,
    SettingsError,
    StartFailed,
    WorkerUnfit,
)
from uwsgibridge.system import pid_file
from uwsgibridge.system.pid_file import PidFile

PATIENCE_SECONDS = 60.0


IMPORTS = """
import os
import sys
from pathlib import Path
from uwsgibridge.system import privileges
from uwsgibridge.system.pid_file import PidFile
from uwsgibridge.errors import PidFileError
"""


def run(script: str, *arguments: str) -> str:
    return run_script(IMPORTS + script, *arguments)


@contextlib.contextmanager
def another_process() -> Iterator[int]:
    with subprocess.Popen(["sleep", str(PATIENCE_SECONDS)]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def pid_of_nobody() -> int:
    with another_process() as pid:
        pass
    return pid


def refusal(path: Path | str) -> str:
    with pytest.raises(PidFileError) as raised, PidFile(str(path)):
        raise AssertionError("it was taken")
    return str(raised.value)


def test_pid_file_holds_the_number_while_the_process_runs(tmp_path: Path):
    path = tmp_path / "mysite.pid"
    before = os.umask(0o077)
    try:
        with PidFile(str(path)):
            assert path.read_text() == f"{os.getpid()}\n"
            assert stat.S_IMODE(path.stat().st_mode) == 0o644
            assert names_in(tmp_path) == ["mysite.pid"]
    finally:
        os.umask(before)
    assert names_in(tmp_path) == []


def test_pid_file_is_removed_after_an_error(tmp_path: Path):
    with pytest.raises(KeyError), PidFile(str(tmp_path / "pid")):
        raise KeyError
    assert names_in(tmp_path) == []


def test_pid_file_is_found_again_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with PidFile("pid"):
        assert (tmp_path / "pid").exists()
        monkeypatch.chdir("/")
    assert names_in(tmp_path) == []


@contextlib.contextmanager
def holder(path: Path) -> Iterator[int]:
    """A process that has the pid file."""
    process = subprocess.Popen(
        [
            sys.executable, "-c",
            f"{IMPORTS}\nwith PidFile(sys.argv[1]):\n    print('held', flush=True)\n    input()",
            str(path),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.kill()


def test_pid_file_of_a_running_process_is_left_to_it(tmp_path: Path):
    path = tmp_path / "pid"
    with holder(path) as pid:
        assert refusal(path) == (
            f"--pid-file {path}: process {pid} of that file is running; stop it, or name another file"
        )
        assert path.read_text() == f"{pid}\n"
    # It was killed: its number is there, and the lock is not.
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_number_of_somebody_else_is_nothing(tmp_path: Path):
    """As after a boot: the numbers of before are those of other programs."""
    path = tmp_path / "pid"
    with another_process() as pid:
        path.write_text(f"{pid}\n")
        with PidFile(str(path)):
            assert path.read_text() == f"{os.getpid()}\n"
    path.write_text("1\n")
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_file_system_without_locks_goes_by_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "pid"
    with another_process() as pid:
        path.write_text(f"{pid}\n")
        assert f"process {pid} of that file is running; stop it, or remove" in refusal(path)
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("content", [None, "1\n"], ids=["none", "stale"])
def test_of_several_at_once_one_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, links: bool
):
    if not links:

        def link(*_names: object, **_options: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))  # as FAT has it

        monkeypatch.setattr(os, "link", link)
    for number in range(50):
        path = tmp_path / f"{number}"
        if content is not None:
            path.write_text(content)
        outcomes, found = take_together(path)
        # Without links, a first file that several make at the same moment is the last one's.
        if links or content is not None:
            assert outcomes.count("had") == 1, outcomes
        assert found == f"{os.getpid()}\n"
        assert names_in(tmp_path) == []


def take_together(path: Path) -> tuple[list[str], str]:
    """Have four threads take it; what each came to, and what the file then holds."""
    together, done, release = threading.Barrier(4), threading.Barrier(5), threading.Event()
    outcomes: list[str] = []

    def take() -> None:
        together.wait(PATIENCE_SECONDS)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(PidFile(str(path)))
            except PidFileError as error:
                outcomes.append(str(error))
            else:
                outcomes.append("had")
            done.wait(PATIENCE_SECONDS)
            release.wait(PATIENCE_SECONDS)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    done.wait(PATIENCE_SECONDS)
    found = path.read_text()
    release.set()
    for thread in threads:
        thread.join()
    return outcomes, found


def test_reader_never_finds_a_part_of_it(tmp_path: Path):
    path = tmp_path / "pid"
    path.write_text("1\n")
    found: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with contextlib.suppress(FileNotFoundError):
                found.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(500):
        with PidFile(str(path)):
            pass
    done.set()
    reader.join()
    assert found <= {"1\n", f"{os.getpid()}\n"}


def test_lock_is_handed_on_over_an_exec(tmp_path: Path):
    """Nobody can have it between the two programs, and the new one needs no permission to write."""
    path = tmp_path / "pid"
    program = f"""{IMPORTS}
from uwsgibridge.system import pid_file
path, step = sys.argv[1:]
mine = PidFile(path)
mine.__enter__()
inode = os.stat(path).st_ino
if step != "2":
    code = open("/proc/self/cmdline").read().split(chr(0))[2]
    os.environ.update(pid_file.hand_on())
    os.execv(sys.executable, [sys.executable, "-c", code, path, str(int(step) + 1)])
print("there", flush=True)
input()
mine.__exit__()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path), "0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        inode = path.stat().st_ino
        assert f"process {process.pid} of that file is running" in refusal(path)
        assert path.stat().st_ino == inode
        # It has not left a descriptor behind with each program.
        kept = [it for it in Path(f"/proc/{process.pid}/fd").iterdir() if it.samefile(path)]
        assert len(kept) == 1
        process.stdin.write("\n")
    assert process.returncode == 0
    assert names_in(tmp_path) == []


@need_root
def test_program_that_fails_to_take_over_leaves_it_to_the_one_before(directory: Path):
    """It ends in order, and empties the file that neither of them may remove."""
    path = directory / "pid"
    said = run(
        "from uwsgibridge.system import pid_file\n"
        "mine = PidFile(sys.argv[1])\n"
        "mine.__enter__()\n"
        "privileges.drop_privileges(int(sys.argv[2]), int(sys.argv[2]))\n"
        "(variable, descriptor), = pid_file.hand_on().items()\n"
        "kept = os.dup(int(descriptor))\n"
        "mine.__exit__()\n"
        "print(repr(Path(sys.argv[1]).read_text()))\n"
        "os.environ[variable] = str(kept)\n"
        "with PidFile(sys.argv[1]):\n"
        "    print(Path(sys.argv[1]).read_text() == f'{os.getpid()}\\n')\n",
        str(path),
        str(NOBODY),
    )
    assert said == "''\nTrue\n"


def test_without_an_exec_no_program_inherits_it(tmp_path: Path):
    path = tmp_path / "pid"
    with PidFile(str(path)):
        (descriptor,) = (int(it) for it in pid_file.hand_on().values())
        assert os.get_inheritable(descriptor)
        pid_file.keep()
        assert not os.get_inheritable(descriptor)


def test_forked_child_that_outlives_the_process_does_not_keep_it(tmp_path: Path):
    path = tmp_path / "pid"
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTS + (
            "with PidFile(sys.argv[1]):\n"
            "    if os.fork() == 0:\n"
            "        print(os.getpid(), flush=True)\n"
            "        os.read(0, 1)\n"
            "        os._exit(0)\n"
            "    os.read(0, 0)\n"
            "    os.waitpid(-1, 0)\n"
        ), str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert "is running" in refusal(path)
        process.kill()
        process.wait(PATIENCE_SECONDS)
        os.kill(child, 0)  # it is there
        with PidFile(str(path)):
            pass


@pytest.mark.parametrize("content", ["", "\n", "0\n", "99999999999999999999\n", None])
def test_stale_pid_file_is_replaced(tmp_path: Path, content: str | None):
    path = tmp_path / "pid"
    path.write_text(f"{pid_of_nobody()}\n" if content is None else content)
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    "error", [BindError("another process listens there"), StartFailed(3), SettingsError("no")]
)
def test_a_start_that_fails_leaves_the_file_of_another_server_as_it_was(
    tmp_path: Path, error: BridgeError
):
    """Other servers do not lock theirs. The operator who tries this one beside them needs theirs."""
    path = tmp_path / "pid"
    with another_process() as other:
        path.write_text(f"{other}\n")
        with pytest.raises(type(error)), PidFile(str(path)):
            raise error
        assert path.read_text() == f"{other}\n"


@pytest.mark.parametrize("lives", [True, False])
def test_what_ends_later_or_was_stale_leaves_none(tmp_path: Path, lives: bool):
    path = tmp_path / "pid"
    with another_process() as other:
        path.write_text(f"{other if lives else pid_of_nobody()}\n")
        ends = WorkerUnfit("a thread is lost") if lives else BindError("not here")
        with pytest.raises(BridgeError), PidFile(str(path)):
            raise ends
        assert not path.exists()


def test_own_pid_is_fine_as_after_an_exec_in_place(tmp_path: Path):
    path = tmp_path / "pid"
    path.write_text(str(os.getpid()))
    inode = path.stat().st_ino
    with PidFile(str(path)):
        # Left as it is: the privileges to replace it may be gone.
        assert (path.read_text(), path.stat().st_ino) == (str(os.getpid()), inode)
    assert not path.exists()


def test_pid_file_that_has_become_another_s_is_not_removed(tmp_path: Path):
    path = tmp_path / "pid"
    with PidFile(str(path)):
        path.write_text("1\n")
    assert path.read_text() == "1\n"
    with PidFile(str(tmp_path / "other")):
        (tmp_path / "other").write_text("it is taken\n")
    assert (tmp_path / "other").exists()


def test_pid_file_that_is_gone_already_is_no_error(tmp_path: Path):
    path = tmp_path / "pid"
    with PidFile(str(path)):
        path.unlink()


def test_forked_child_does_not_remove_it(tmp_path: Path):
    said = run(
        "path = Path(sys.argv[1])\n"
        "with PidFile(sys.argv[1]):\n"
        "    child = os.fork()\n"
        "    if child:\n"
        "        os.waitpid(child, 0)\n"
        "        print(path.exists(), end='')\n",
        str(tmp_path / "pid"),
    )
    assert said == "True"
    assert names_in(tmp_path) == []


@need_root
def test_pid_file_after_the_drop_is_left_without_a_word(directory: Path):
    run(
        "with PidFile(sys.argv[1]):\n"
        "    privileges.drop_privileges(int(sys.argv[2]), int(sys.argv[2]))\n",
        f"{directory}/pid",
        str(NOBODY),
    )
    with PidFile(f"{directory}/pid"):
        assert (directory / "pid").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    "content", [b"[uwsgibridge]\n", b"-1\n", b"12 34\n", b"\xff", b"12\n#" * 99]
)
def test_file_that_is_no_pid_file_is_not_replaced(tmp_path: Path, content: bytes):
    path = tmp_path / "uwsgibridge.toml"
    path.write_bytes(content)
    assert refusal(path) == (
        f"--pid-file {path}: the file holds no process number; remove it, or name another"
    )
    assert path.read_bytes() == content


def test_pid_file_that_is_no_ordinary_file_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        assert refusal(path) == f"--pid-file {path}: it is no ordinary file; name another"


def test_pid_file_where_there_is_no_directory(tmp_path: Path):
    path = tmp_path / "run" / "pid"
    assert refusal(path) == (
        f"--pid-file {path}: there is no directory {path.parent}; create it first"
    )
    (tmp_path / "run").touch()
    assert refusal(path) == f"--pid-file {path}: {path.parent} is no directory"
    assert refusal(Path("/proc/pid")) == "--pid-file /proc/pid: nothing can be made in /proc"


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_an_impossible_name_is_refused(tmp_path: Path, name: str):
    path = tmp_path / name
    assert refusal(path) == f"--pid-file {str(path)!r} is no path that a file can have"


def test_a_directory_without_permission_is_named(directory: Path):
    directory.chmod(0o555)
    with as_nobody():
        assert refusal(directory / "pid").startswith(
            f"--pid-file {directory}/pid: no permission to create or replace it in {directory} as "
        )
    directory.chmod(0o755)
    assert names_in(directory) == []


@pytest.mark.parametrize("call", ["write", "link"])
def test_nothing_is_left_of_a_pid_file_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    def refuse(*_arguments: object, **_options: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, refuse)
    path = tmp_path / "pid"
    assert refusal(path) == f"--pid-file {path}: No space left on device"
    assert names_in(tmp_path) == []


@need_root
def test_root_writes_none_where_another_user_could_replace_it(directory: Path):
    """Root signals whom the file names."""
    os.chown(directory, NOBODY, NOBODY)
    assert refusal(directory / "pid") == (
        f"--pid-file {directory}/pid: nobody can change {directory}, and with it which process root "
        "signals; put it in a directory that only root can write, such as /run"
    )
    assert names_in(directory) == []


# The pid file of a service.


APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [])
    return []
"""


@contextlib.contextmanager
def service(directory: Path, *options: str) -> Iterator[BridgeProcess]:
    (directory / "site_.py").write_text(APPLICATION)
    with running_process(
        "serve", "site_:app", "--bind", "127.0.0.1:0", "--pid-file", "run.pid", *options,
        directory=directory,
    ) as process:  # fmt: skip
        yield process


@pytest.mark.parametrize("workers", ["0", "1"], ids=["unsupervised", "forked"])
def test_second_start_is_refused_and_a_stale_number_is_not(tmp_path: Path, workers: str):
    path = tmp_path / "run.pid"
    with another_process() as pid:
        path.write_text(f"{pid}\n")
        with service(tmp_path, "--workers", workers) as process:
            process.events.wait(event="listening")
            assert path.read_text() == f"{process.pid}\n"
            status, said = run_to_its_end(
                "serve", "site_:app", "--bind", "127.0.0.1:0", "--pid-file", "run.pid",
                directory=tmp_path,
            )  # fmt: skip
            assert status == 1
            assert f"process {process.pid} of that file is running" in said
            assert process.stop() == 0
    assert not path.exists()


def test_upgrade_in_place_keeps_it(tmp_path: Path):
    path = tmp_path / "run.pid"
    with service(tmp_path, "--workers", "1") as process:
        process.events.wait(event="listening")
        inode = path.stat().st_ino
        for number in (1, 2):
            process.signal(signal.SIGUSR2)
            process.events.wait_many(number, event="upgraded")
            process.events.wait_many(number, event="reloaded")
            assert (path.stat().st_ino, path.read_text()) == (inode, f"{process.pid}\n")
            assert f"process {process.pid} of that file is running" in refusal(path)
        assert process.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_start_where_another_server_listens_leaves_its_pid_file(tmp_path: Path, workers: str):
    path = tmp_path / "pid"
    with socket.create_server(("127.0.0.1", 0)) as taken, another_process() as other:
        path.write_text(f"{other}\n")
        status, text = run_to_its_end(
            *("serve", "nothing:app", "--bind", f"127.0.0.1:{taken.getsockname()[1]}"),
            *("--pid-file", str(path), "--workers", workers),
            directory=tmp_path,
        )
        assert status == 1
        assert "the port is in use by" in text
        assert path.read_text() == f"{other}\n"
