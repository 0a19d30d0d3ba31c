"""The log at a real systemd-journald and a real rsyslogd, where they are installed; the journal's is root's to start."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from select import select

import pytest

from integration.line_reader import LineReader
from uwsgibridge.client import request

PATIENCE_SECONDS = 20.0
JOURNALD = Path("/lib/systemd/systemd-journald")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
RSYSLOGD = shutil.which("rsyslogd", path=PATH)

APPLICATION = """
import logging
log = logging.getLogger("shop.views")

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fails":
        raise ValueError("of the application")
    log.error("told of %s", path, extra={"large": "x" * int(environ["QUERY_STRING"] or 0)})
    start_response("200 OK", [])
    return []
"""

# Directories of its own for a journal: nothing of this machine's is read or written.
NAMESPACE = """
mount -t tmpfs none /run && mount -t tmpfs none /var/log || exit 1
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d
printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nRateLimitIntervalSec=0\\n' > /run/systemd/journald.conf.d/test.conf
echo ready
exec sleep infinity
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    # pytest's own paths may be too long for a unix socket.
    with tempfile.TemporaryDirectory() as path:
        (Path(path) / "told.py").write_text(APPLICATION)
        yield Path(path)


@contextlib.contextmanager
def bridge(
    directory: Path, *arguments: str, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, LineReader]]:
    """Run a bridge that listens at a socket in a directory; give its address and what it writes to standard error."""
    where = f"unix:{directory}/app.sock"
    command = [
        *before, sys.executable, "-m", "uwsgibridge", "serve", "told:application", "--bind", where, "--workers", "1",
        "--log-format", "text", "--log-to", "stderr", "--control-socket", "none", "--log-identifier", "shop", *arguments,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    with LineReader(process.stdout) as lines:
        try:
            lines.wait_for("listening", PATIENCE_SECONDS)
            yield where, lines
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS)
            finally:
                process.kill()
    assert process.returncode == 0


class Journal:
    """A systemd-journald in a mount namespace of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", NAMESPACE], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self.close()
            pytest.skip("this process may make no mount namespace")
        self.inside = (
            "nsenter",
            "--mount",
            f"--target={self._holder.pid}",
            f"--wd={directory}",
            "--",
        )
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon; it has its sockets when it says that it is ready."""
        told = str(self._directory / f"notify-{os.urandom(4).hex()}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(told)
            notified.settimeout(PATIENCE_SECONDS)
            self._daemon = subprocess.Popen(
                [*self.inside, str(JOURNALD)], env={**os.environ, "NOTIFY_SOCKET": told},
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            while b"READY=1" not in notified.recv(65_536):
                pass

    def stop(self) -> None:
        """End the daemon, when it has written what it has received."""
        assert self._daemon is not None
        self._run("journalctl", "--sync")
        # The socket stays where it is, and nobody reads it: systemd removes it.
        self._daemon.terminate()
        self._daemon.wait(PATIENCE_SECONDS)
        self._run("rm", "-f", "/run/systemd/journal/socket")

    def entries(self) -> list[dict[str, object]]:
        """Give all entries of the program."""
        self._run("journalctl", "--sync")
        text = self._run("journalctl", "-t", "shop", "-o", "json", "--all", "--no-pager")
        return [json.loads(line) for line in text.splitlines()]

    def close(self) -> None:
        """End everything."""
        for it in (getattr(self, "_daemon", None), self._holder):
            if it is not None:
                it.kill()
                it.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    def _run(self, *command: str) -> str:
        ran = subprocess.run(
            [*self.inside, *command], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


@pytest.fixture
def journal(directory: Path) -> Iterator[Journal]:
    if os.getuid() != 0 or not JOURNALD.exists() or not shutil.which("nsenter"):
        pytest.skip("needs root and systemd-journald")
    made = Journal(directory)
    yield made
    made.close()


def test_the_journal_gets_all_fields_also_when_it_is_started_again(
    directory: Path, journal: Journal
) -> None:
    journal.start()
    with bridge(directory, "--log-to", "journald", "--access-log", before=journal.inside) as (
        where,
        lines,
    ):
        request(where, "/one")
        request(where, "/fails")
        request(where, "/large?1000000")
        journal.stop()
        request(where, "/kept")
        lines.wait_for("Warning: --log-to journald can't be reached", PATIENCE_SECONDS)
        journal.start()
        request(where, "/two")
    entries = journal.entries()
    told = [it for it in entries if it.get("UWSGIBRIDGE_LOGGER") == "shop.views"]
    assert [it["UWSGIBRIDGE_EVENT"] for it in told] == [
        f"told of /{it}" for it in ("one", "large", "kept", "two")
    ]
    assert told[0]["PRIORITY"] == "3"
    assert told[0]["CODE_FILE"] == str(directory / "told.py")
    assert told[0]["CODE_LINE"] == "9"
    assert told[0]["_PID"] == told[0]["UWSGIBRIDGE_WORKER"]
    assert len(str(told[1]["UWSGIBRIDGE_LARGE"])) == 1_000_000
    (failed,) = [it for it in entries if it["UWSGIBRIDGE_EVENT"] == "application failed"]
    assert "ValueError: of the application" in str(failed["MESSAGE"])
    paths = [it["UWSGIBRIDGE_PATH"] for it in entries if it["UWSGIBRIDGE_EVENT"] == "access"]
    assert paths == ["/one", "/fails", "/large", "/kept", "/two"]


RSYSLOG = """
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
input(type="imuxsock" Socket="{directory}/log")
input(type="imudp" address="127.0.0.1" port="{port}")
template(name="own" type="string" string="%programname% %syslogfacility-text%.%syslogseverity-text% %protocol-version% %structured-data% %msg%\n")
action(type="ompipe" pipe="{directory}/written" template="own")
"""


@pytest.mark.skipif(RSYSLOGD is None, reason="needs rsyslogd")
def test_rsyslog_takes_both_forms_for_what_they_are(directory: Path) -> None:
    assert RSYSLOGD is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (directory / "rsyslog.conf").write_text(RSYSLOG.format(directory=directory, port=port))
    os.mkfifo(directory / "written")
    # Open for both, so that rsyslogd finds a reader, and the end does not come with it.
    written = os.fdopen(os.open(directory / "written", os.O_RDWR | os.O_NONBLOCK), "rb", 0)
    pid_file = directory / "pid"
    # It goes to the background when it has its sockets.
    subprocess.run(
        [RSYSLOGD, "-f", str(directory / "rsyslog.conf"), "-i", str(pid_file)],
        check=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    os.set_blocking(written.fileno(), True)
    places = ("--log-to", f"syslog:{directory}/log", "--log-to", f"syslog:127.0.0.1:{port}")
    received: list[str] = []
    try:
        with bridge(directory, *places, "--syslog-facility", "local3") as (where, _):
            request(where, "/one")
            while len(received) < 2:
                assert select([written], [], [], PATIENCE_SECONDS)[0], received
                line = written.readline().decode()
                if "told of /one" in line:
                    received.append(line)
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        written.close()
    local, remote = sorted(received)
    assert local.startswith("shop local3.err 0 -  told of /one request_id=")
    assert remote.startswith('shop local3.err 1 [uwsgibridge@32473 request_id="')
    assert 'logger="shop.views"' in remote
    assert remote.endswith("] told of /one\n")
