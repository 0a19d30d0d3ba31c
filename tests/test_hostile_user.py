"""What a user can do to root who starts a service for them: links at each place, files that are swapped."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.bridge_process import run_to_its_end, running_process
from tests.other_users import the_user_can_run_python
from tests.processes import descendants_of
from uwsgibridge.client import PingError, ping
from uwsgibridge.config.address import UnixAddress
from uwsgibridge.connection.socket_files import SocketFiles
from uwsgibridge.connection.sockets import open_sockets
from uwsgibridge.errors import BindError, LogFileError
from uwsgibridge.telemetry.log_file import open_log_file

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to have something to lose")

NOBODY = 65_534
ANOTHER = 54_321
PATIENCE_SECONDS = 60.0

APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [])
    return []
"""


@pytest.fixture
def ground(directory: Path) -> Path:
    """A directory of root's that all may enter."""
    return directory


@pytest.fixture
def theirs(ground: Path) -> Path:
    """A directory of the user's."""
    directory = ground / "theirs"
    directory.mkdir()
    os.chown(directory, NOBODY, NOBODY)
    return directory


@pytest.fixture
def victim(ground: Path) -> Iterator[Path]:
    """A file in a directory of root's, both of which nobody may touch: it is as it was afterwards."""
    directory = ground / "roots"
    directory.mkdir(mode=0o755)
    file = directory / "shadow"
    file.write_text("precious\n")
    file.chmod(0o600)
    before = [(it.st_uid, it.st_gid, it.st_mode) for it in (file.stat(), directory.stat())]
    yield file
    after = [(it.st_uid, it.st_gid, it.st_mode) for it in (file.stat(), directory.stat())]
    assert after == before
    assert file.read_text() == "precious\n"
    assert [it.name for it in directory.iterdir()] == ["shadow"]


@contextlib.contextmanager
def as_the_user() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def application(ground: Path) -> Path:
    directory = ground / "code"
    directory.mkdir()
    (directory / "site_.py").write_text(APPLICATION)
    return directory


def refusal(application: Path, *options: str) -> str:
    """Give what `serve` says, which must refuse to start."""
    status, said = run_to_its_end(
        "serve", "site_:app", "--bind", "127.0.0.1:0", "--user", str(NOBODY), *options,
        directory=application,
    )  # fmt: skip
    assert status == 1, said
    assert "Traceback" not in said
    return said


BECOME_THE_USER = f"""
import contextlib, ctypes, os, sys
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
print("begun", flush=True)
"""


# renameat2(AT_FDCWD, one, AT_FDCWD, another, RENAME_EXCHANGE), again and again.
EXCHANGE = """
one, another = map(os.fsencode, sys.argv[1:])
exchange = ctypes.CDLL(None).renameat2
while True:
    exchange(-100, one, -100, another, 2)
"""


@contextlib.contextmanager
def swapping(script: str, *arguments: str) -> Iterator[None]:
    """Run the user's program, which swaps files until it is killed."""
    process = subprocess.Popen(
        # It becomes the user itself, who may not be able to start this Python.
        [sys.executable, "-c", f"{BECOME_THE_USER}\n{script}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield
        finally:
            process.kill()


# The log file.


def test_log_file_that_is_a_link_to_a_file_of_root_is_refused(
    application: Path, theirs: Path, victim: Path
):
    with as_the_user():
        (theirs / "log").symlink_to(victim)
    said = refusal(application, "--log-file", f"{theirs}/log")
    assert f"--log-file {theirs}/log: " in said
    assert f"can change {theirs}, so root does not follow the link {theirs}/log" in said
    assert "only root can write" in said


def test_log_file_below_a_link_to_a_directory_of_root_is_refused(
    application: Path, theirs: Path, victim: Path
):
    with as_the_user():
        (theirs / "log").symlink_to(victim.parent)
    assert "does not follow the link" in refusal(application, "--log-file", f"{theirs}/log/new")


def test_log_file_that_is_a_hard_link_to_a_file_of_root_is_refused(
    application: Path, theirs: Path, victim: Path
):
    # Where fs.protected_hardlinks is 0, the user can do so.
    os.link(victim, theirs / "log")
    said = refusal(application, "--log-file", f"{theirs}/log")
    assert f"may not open it, and root does not since nobody can change {theirs}" in said
    assert "give the file to nobody (chown)" in said
    # And where root stays root.
    before = os.dup(2)
    try:
        with pytest.raises(LogFileError, match=r"second name \(a hard link\).*remove it"):
            open_log_file(theirs / "log")
    finally:
        os.dup2(before, 2)
        os.close(before)


def test_log_file_of_root_in_a_directory_of_the_user_is_not_given_away(
    application: Path, theirs: Path
):
    log = theirs / "log"
    log.write_text("of root\n")
    log.chmod(0o600)
    assert "may not open it" in refusal(application, "--log-file", str(log))
    assert (log.stat().st_uid, log.read_text()) == (0, "of root\n")


def test_log_file_in_a_directory_that_everybody_can_write_is_refused(
    application: Path, ground: Path
):
    everybodys = ground / "tmp"
    everybodys.mkdir()
    everybodys.chmod(0o1777)
    log = everybodys / "log"
    log.write_text("of root\n")
    log.chmod(0o600)
    said = refusal(application, "--log-file", str(log))
    assert f"everybody can make files in {everybodys}" in said
    assert log.stat().st_uid == 0


def test_log_file_in_a_directory_that_a_group_can_write_is_refused(application: Path, ground: Path):
    groups = ground / "log"
    groups.mkdir()
    os.chown(groups, 0, ANOTHER)
    groups.chmod(0o775)
    said = refusal(application, "--log-file", f"{groups}/log")
    assert f"the group {ANOTHER} can change {groups}" in said


@pytest.mark.parametrize("whose", ["root", "user"])
def test_log_file_in_a_safe_place(application: Path, ground: Path, theirs: Path, whose: str):
    """A link of root's own on the way is fine, as /var/run is one."""
    directory = theirs if whose == "user" else ground / "log"
    directory.mkdir(exist_ok=True)
    (ground / "link").symlink_to(directory)
    log = ground / "link" / "mysite.log"
    with running_process(
        "serve", "site_:app", "--bind", f"unix:{ground}/s", "--user", str(NOBODY),
        "--log-file", str(log),
        directory=application,
    ) as process:  # fmt: skip
        wait_for_bridge(ground / "s")
        assert (log.stat().st_uid, stat.S_IMODE(log.stat().st_mode)) == (NOBODY, 0o640)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert "listening" in log.read_text()


def test_log_file_that_is_a_device_is_not_given_away(application: Path, ground: Path):
    with running_process(
        "serve", "site_:app", "--bind", f"unix:{ground}/s", "--user", str(NOBODY),
        "--log-file", "/dev/null",
        directory=application,
    ) as process:  # fmt: skip
        wait_for_bridge(ground / "s")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert Path("/dev/null").stat().st_uid == 0


def test_log_file_that_is_a_stream_of_the_process(application: Path):
    """Containers name /dev/stdout, which is a link into /proc."""
    with running_process(
        "serve", "site_:app", "--bind", "127.0.0.1:0", "--user", str(NOBODY),
        "--log-file", "/dev/stdout",
        directory=application,
    ) as process:  # fmt: skip
        assert process.address
        assert process.stop() == 0


def test_log_file_that_is_swapped_for_a_link_again_and_again(theirs: Path, victim: Path):
    before = os.dup(2)
    with as_the_user():
        (theirs / "log").write_text("")
        (theirs / "link").symlink_to(victim)
    try:
        with swapping(EXCHANGE, f"{theirs}/log", f"{theirs}/link"):
            for _ in range(500):
                for owner in ((NOBODY, NOBODY), None):
                    with contextlib.suppress(LogFileError):
                        open_log_file(theirs / "log", owner)
    finally:
        os.dup2(before, 2)
        os.close(before)


# Sockets.


def wait_for_bridge(path: Path) -> None:
    """Wait until a bridge answers there."""
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            ping(f"unix:{path}")
        except PingError:
            assert monotonic() < deadline
            sleep(0.01)
        else:
            return


FILES = [
    pytest.param(SocketFiles(0o666, (NOBODY, NOBODY), NOBODY, NOBODY), id="made-by-the-user"),
    pytest.param(SocketFiles(0o666, None, NOBODY, NOBODY), id="made-by-root-and-given"),
    pytest.param(SocketFiles(0o666), id="made-by-root"),
]


@pytest.mark.parametrize("files", FILES)
def test_socket_that_is_swapped_for_a_link_again_and_again(
    theirs: Path, victim: Path, files: SocketFiles
):
    swap = """
directory, victim, name = sys.argv[1:]
os.chdir(directory)
while True:
    os.symlink(victim, "link")
    while not os.path.lexists(name):
        pass
    os.rename("link", name)
"""
    # The name under which a socket is bound, before it is moved to its place.
    with swapping(swap, str(theirs), str(victim), f"s.{os.getpid() % 1000}"):
        for _ in range(300):
            with (
                contextlib.suppress(BindError),
                open_sockets([f"unix:{theirs}/s"], mode=files, backlog=1),
            ):
                pass


@pytest.mark.parametrize("files", FILES)
def test_socket_below_a_directory_that_is_swapped_again_and_again(
    theirs: Path, victim: Path, files: SocketFiles
):
    with as_the_user():
        (theirs / "run").mkdir()
        (theirs / "link").symlink_to(victim.parent)
    with swapping(EXCHANGE, f"{theirs}/run", f"{theirs}/link"):
        for _ in range(500):
            with (
                contextlib.suppress(BindError),
                open_sockets([f"unix:{theirs}/run/s"], mode=files, backlog=1),
            ):
                pass


def test_socket_below_a_link_of_another_user_is_refused(theirs: Path, victim: Path):
    with as_the_user():
        (theirs / "run").symlink_to(victim.parent)
    with (
        pytest.raises(BindError) as raised,
        open_sockets([f"unix:{theirs}/run/s"], mode="0660", backlog=1),
    ):
        raise AssertionError("it was opened")
    assert f"unix:{theirs}/run/s: nobody can change {theirs}, so root does not follow" in str(
        raised.value
    )


def test_socket_in_a_directory_of_another_user_is_made_there(theirs: Path):
    """As in a container that runs as root and has a directory of the host's mounted."""
    with open_sockets([f"unix:{theirs}/s"], mode="0600", backlog=1):
        found = (theirs / "s").stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o600)
    assert list(theirs.iterdir()) == []


def test_link_of_the_user_leads_where_the_user_may_go(theirs: Path):
    """Deployments have links of their own, such as current."""
    with as_the_user():
        (theirs / "release").mkdir()
        (theirs / "current").symlink_to("release")
    files = SocketFiles(0o660, (NOBODY, NOBODY), NOBODY, NOBODY)
    with open_sockets([f"unix:{theirs}/current/s"], mode=files, backlog=1):
        found = (theirs / "release" / "s").stat()
        assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY)


# A start that fails.

FAILS_IN_ITS_STARTUP = """
async def app(scope, receive, send):
    assert await receive()
    await send({"type": "lifespan.startup.failed", "message": "not today"})
"""

# What only the process that starts is to say, where the application can.
GIVES_A_WORD_OF_ITS_OWN = """
import os
for number in range(3, 64):
    try:
        os.write(number, b"-")
    except OSError:
        pass
raise RuntimeError("not today")
"""

BROKEN = {
    "raises": ("raise RuntimeError('not today')\n", 3),
    "ends": ("import os; os._exit(7)\n", 7),
    "fails-in-its-startup": (FAILS_IN_ITS_STARTUP, 3),
    "gives-a-word-of-its-own": (GIVES_A_WORD_OF_ITS_OWN, 3),
}


@pytest.mark.parametrize("workers", ["0", "1"], ids=["unsupervised", "forked"])
@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("where", ["roots", "theirs"])
def test_a_start_that_fails_leaves_no_socket(
    application: Path, ground: Path, theirs: Path, kind: str, workers: str, where: str
):
    code, expected = BROKEN[kind]
    (application / "site_.py").write_text(code)
    can_start = workers == "0" or the_user_can_run_python()
    if not can_start:
        expected = 1  # "no process can be started", which is one more that fails
    directory = theirs if where == "theirs" else ground / "roots"
    directory.mkdir(exist_ok=True)
    status, said = run_to_its_end(
        *("serve", "site_:app", "--bind", f"unix:{directory}/s", "--user", str(NOBODY)),
        *("--workers", workers),
        directory=application,
    )
    assert status == expected, said
    assert can_start or "is closed to it; have Python" in said
    # Nobody removes what a process has in a directory of the user's that ends without a word.
    deadline = monotonic() + PATIENCE_SECONDS
    while list(directory.iterdir()) and (kind, where) != ("ends", "theirs"):
        # Where a start ends without a word, somebody else sees it, a moment later.
        assert monotonic() < deadline, said
        sleep(0.01)
    assert "DeprecationWarning" not in said  # of a fork beside threads


def test_a_start_that_is_killed_leaves_no_socket(application: Path, ground: Path):
    (application / "site_.py").write_text(
        "import threading\nprint('begun', flush=True)\nthreading.Event().wait()\n"
    )
    directory = ground / "roots"
    directory.mkdir()
    with running_process(
        *("serve", "site_:app", "--bind", f"unix:{directory}/s", "--user", str(NOBODY)),
        directory=application,
    ) as process:
        deadline = monotonic() + PATIENCE_SECONDS
        while "begun" not in process.events.other_text():
            assert monotonic() < deadline
            sleep(0.01)
        assert (directory / "s").exists()
        process.signal(signal.SIGKILL)
        process.wait()
        while list(directory.iterdir()):
            assert monotonic() < deadline
            sleep(0.01)


@pytest.mark.parametrize(
    ("workers", "closes"),
    [("0", False), ("1", False), ("0", True)],
    ids=["alone", "supervised", "closes-all"],
)
def test_a_start_that_succeeds_keeps_its_socket_and_nobody_stays_root(
    application: Path, ground: Path, workers: str, closes: bool
):
    if workers == "1" and not the_user_can_run_python():
        pytest.skip("the user can't start this Python")
    directory = ground / "roots"
    directory.mkdir()
    if closes:
        # All pipes: the word can't be given. The socket stays as long as this process does.
        (application / "site_.py").write_text(
            "import os, stat\n"
            "for name in os.listdir('/proc/self/fd'):\n"
            "    try:\n"
            "        if int(name) > 9 and stat.S_ISFIFO(os.fstat(int(name)).st_mode):\n"
            "            os.close(int(name))\n"
            "    except OSError:\n"
            "        pass\n"
            f"{APPLICATION}"
        )
    with running_process(
        *("serve", "site_:app", "--bind", f"unix:{directory}/s", "--user", str(NOBODY)),
        *("--workers", workers, "--log-format", "json"),
        directory=application,
    ) as process:
        process.events.wait(event="listening")
        ping(UnixAddress(f"{directory}/s"), timeout_seconds=PATIENCE_SECONDS)
        if not closes:
            assert {owner_of(pid) for pid in [process.pid, *descendants_of(process.pid)]} == {
                NOBODY
            }
        assert process.stop() == 0


def owner_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


# What root reads.


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("whose", ["directory", "file", "link", "root"])
def test_options_that_another_user_can_change_are_told(
    ground: Path, theirs: Path, whose: str, named: bool
):
    """They could take --user out, or name another application."""
    directory = theirs if whose in {"directory", "link"} else ground
    file = directory / "uwsgibridge.toml"
    if whose == "link":
        (ground / "elsewhere.toml").write_text("threads = 2\n")
        with as_the_user():
            file.symlink_to(ground / "elsewhere.toml")
    else:
        file.write_text("threads = 2\n")
        os.chown(file, NOBODY if whose == "file" else 0, 0)
    status, said = run_to_its_end(
        "serve", "gone:app", "--bind", "127.0.0.1:0", *(("--config", str(file)) if named else ()),
        directory=directory,
    )  # fmt: skip
    assert status == 3
    shown = file if named else "uwsgibridge.toml"
    if whose == "root":
        assert "Warning" not in said
    else:
        assert (
            f"Warning: --config {shown}: nobody can change {directory if whose != 'file' else shown}"
            in said
        )
