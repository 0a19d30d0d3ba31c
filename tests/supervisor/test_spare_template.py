"""The first template, which is forked before the supervisor runs: an application can't tell it from the next one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from tests.bridge_process import BridgeProcess, run_to_its_end, running_process
from tests.log_events import PATIENCE_SECONDS
from tests.other_users import run_script
from tests.processes import children_of
from uwsgibridge.config.settings import Settings
from uwsgibridge.link.messages import Blueprint
from uwsgibridge.supervisor.spare_template import SpareTemplate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is none elsewhere")

SCRIPT = (str(Path(sys.executable).with_name("uwsgibridge")),)
MODULE = ("-m", "uwsgibridge")

# What a process can tell of how it was started.
APPLICATION = """
import json, os, re, signal, sys
from pathlib import Path

def lines(*names):
    status = Path("/proc/self/status").read_text().splitlines()
    return [it for it in status if it.startswith(names)]

def opened():
    found = []
    for one in Path("/proc/self/fd").iterdir():
        try:
            found.append(re.sub(r"[0-9]{4,}", "N", os.readlink(one)))
        except FileNotFoundError:  # the directory itself
            pass
    return sorted(found)

main = sys.modules["__main__"]
print(json.dumps({"event": "seen", "what": {
    "path": sys.path,
    "arguments": sys.argv,
    "environment": dict(os.environ),
    "files": opened(),
    "signals": lines("SigIgn", "SigBlk"),
    "handlers": [re.sub(" at 0x.*", "", repr(signal.getsignal(it))) for it in sorted(signal.valid_signals())],
    "umask": lines("Umask"),
    "limits": Path("/proc/self/limits").read_text(),
    "leads a session": os.getsid(0) in {os.getpid(), os.getppid()},
    "flags": [sys.warnoptions, sys.flags.dont_write_bytecode, sys.flags.utf8_mode],
    "main": [main.__spec__.name, main.__file__],
    "oom": Path("/proc/self/oom_score_adj").read_text(),
}}), file=sys.stderr, flush=True)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


@contextmanager
def running(
    directory: Path,
    *arguments: str,
    program: tuple[str, ...] = MODULE,
    pass_fds: tuple[int, ...] = (),
) -> Iterator[BridgeProcess]:
    (directory / "site_app.py").write_text(APPLICATION)
    with running_process(
        *("serve", "site_app:app", "--bind", "127.0.0.1:0", "--log-format", "json"),
        *("--workers", "1", *arguments),
        directory=directory,
        environment={"NOTIFY_SOCKET": f"@uwsgibridge-test-{os.getpid()}"},
        program=program,
        pass_fds=pass_fds,
    ) as bridge:
        bridge.wait_listening(1)
        yield bridge


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["forked", "preloaded"])
@pytest.mark.parametrize("program", [SCRIPT, MODULE], ids=["script", "module"])
def test_the_first_template_is_like_the_next_one(
    tmp_path: Path, preload: tuple[str, ...], program: tuple[str, ...]
) -> None:
    # Of a shell that starts the bridge: neither template's application is to see it.
    foreign, end = os.pipe()
    options = ("--umask", "027", "--log-file", str(tmp_path / "log"), "--worker-oom-score", "7")
    log = tmp_path / "log"
    (tmp_path / "site_app.py").write_text(APPLICATION)
    with running_process(
        *("serve", "site_app:app", "--bind", "127.0.0.1:0", "--bind", "unix:site.sock"),
        *("--log-format", "json", "--workers", "1", *options, *preload),
        directory=tmp_path,
        environment={"NOTIFY_SOCKET": f"@uwsgibridge-test-{os.getpid()}"},
        program=program,
        pass_fds=(foreign,),
    ) as bridge:
        wait_for(lambda: seen(log, "listening", 2))
        bridge.signal(signal.SIGHUP)
        wait_for(lambda: seen(log, "seen", 2))
        wait_for(lambda: seen(log, "reloaded", 1))
        assert bridge.stop() == 0
    os.close(foreign)
    os.close(end)
    first, second = (it["what"] for it in events(log, "seen"))
    assert "NOTIFY_SOCKET" not in first["environment"]
    assert not any(it.endswith("/bin") for it in first["path"])
    assert first == second


def test_the_first_template_was_forked_and_is_a_child_of_the_supervisor(tmp_path: Path) -> None:
    with running(tmp_path) as bridge:
        [template] = children_of(bridge.pid)
        started = Path(f"/proc/{template}/cmdline").read_bytes()
        assert started == Path(f"/proc/{bridge.pid}/cmdline").read_bytes()
        assert bridge.stop() == 0


def test_a_start_that_fails_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = run_to_its_end(
            *("serve", "site_app:app", "--bind", f"127.0.0.1:{port}", "--workers", "1"),
            directory=tmp_path,
        )
    assert status == 1, said
    assert str(port) in said
    assert processes_in(tmp_path) == []


def test_it_ends_with_its_supervisor() -> None:
    program = """
import os, sys
from uwsgibridge.supervisor.spare_template import SpareTemplate
from uwsgibridge.worker.spare_template import become_template
print(SpareTemplate.fork(become_template).pid, flush=True)
os._exit(0)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
        check=True,
    )  # ends when nobody has its output open any more
    pid = int(ended.stdout)
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def wait_to_be_killed(control: socket.socket, lifeline: int) -> int:
    signal.pause()
    os._exit(control.fileno() + lifeline)


def test_one_that_was_killed_is_not_used(tmp_path: Path) -> None:
    spare = SpareTemplate.fork(wait_to_be_killed)
    assert spare is not None
    os.kill(spare.pid, signal.SIGKILL)
    os.waitid(os.P_PID, spare.pid, os.WEXITED | os.WNOWAIT)
    assert spare.start(Blueprint("site:app", Settings(), 0), [0]) is None
    with pytest.raises(ChildProcessError):
        os.waitpid(spare.pid, 0)
    assert spare.start(Blueprint("site:app", Settings(), 0), [0]) is None


def test_more_sockets_than_a_message_takes_are_for_one_that_is_started_anew() -> None:
    spare = SpareTemplate.fork(wait_to_be_killed)
    assert spare is not None
    assert spare.start(Blueprint("site:app", Settings(), 0), [0] * 254) is None
    with pytest.raises(ChildProcessError):
        os.waitpid(spare.pid, 0)


def events(log: Path, name: str) -> list[dict[str, Any]]:
    found = []
    # A line that is longer than a buffer may be half there.
    whole = log.read_text().rpartition("\n")[0] if log.exists() else ""
    for line in whole.splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == name:
            found.append(event)
    return found


def seen(log: Path, name: str, count: int) -> bool:
    return len(events(log, name)) >= count


def processes_in(directory: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == directory:
                found.append((process / "cmdline").read_text())
        except OSError:  # it has ended, or belongs to another user
            continue
    return found


def wait_for(condition) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline
        sleep(0.02)


def test_what_a_library_has_open_of_itself_stays_open() -> None:
    """As libffi has, which maps its own file again for callbacks."""
    said = run_script(
        "import os\n"
        "from uwsgibridge.worker.spare_template import _close_others, _libraries\n"
        "library = os.open(min(it for it in _libraries() if '.so' in it), os.O_RDONLY)\n"
        "other, kept = os.open('/dev/null', os.O_RDONLY), os.open('/dev/null', os.O_RDONLY)\n"
        "_close_others({0, 1, 2, kept})\n"
        "for descriptor in (library, other, kept):\n"
        "    try:\n"
        "        os.fstat(descriptor)\n"
        "        print('open')\n"
        "    except OSError:\n"
        "        print('closed')\n"
        "import ctypes\n"
        "made = [ctypes.CFUNCTYPE(None)(print) for _ in range(1000)]\n"
    )
    assert said.split() == ["open", "closed", "open"]
