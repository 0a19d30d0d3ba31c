"""An upgrade in place: what a program that takes a process over by exec finds there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.config.address import TcpAddress
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.errors import SettingsError
from uwsgibridge.supervisor.heritage import (
    FORM,
    REHEARSAL_VARIABLE,
    Heritage,
    check_takeover,
    is_upgrade,
)

VARIABLE = "UWSGIBRIDGE_HERITAGE_FD"

# Hands itself on to itself, once.
PROGRAM = """
import json, os, signal, socket, sys
from uwsgibridge.connection.sockets import open_sockets
from uwsgibridge.system.signals import SERVER_SIGNALS
from uwsgibridge.supervisor.heritage import Heritage, defer_signals, is_upgrade

def open_files():
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + name)
        except FileNotFoundError:  # of the list itself
            target = ""
        if ".so" not in target:  # libffi 3.8 keeps its own file open
            yield int(name)

upgraded = is_upgrade()
heritage = Heritage.from_environment()
if heritage is None:
    defer_signals()
    lifeline = os.pipe()
    os.write(lifeline[1], b"alive")
    control, link = socket.socketpair()
    dumps, _ = os.pipe()
    flights = os.memfd_create("flights")
    worker = {"pid": 7, "descriptors": [link.fileno(), flights, dumps]}
    generation = {"number": 3, "template": 6, "control": control.fileno(), "workers": [worker]}
    lines, _ = os.pipe()
    held, _ = os.pipe()
    sidecar = {"program": {"lifeline": held, "streams": {"stdout": lines}}}
    kept = [control.fileno(), *worker["descriptors"], lines, held]
    with (
        open_sockets([f"unix:{sys.argv[1]}"], mode="0600", backlog=5) as sockets,
        open_sockets(["127.0.0.1:0"], mode="0600", backlog=5) as published,
    ):
        first = Heritage(
            ["unix:app.sock"], {"unix:app.sock": sockets}, lifeline, [generation],
            {"crashed": 4}, 12.5, kept, [sidecar], {"status_bind 127.0.0.1:0": published},
        )
        os.kill(os.getpid(), signal.SIGHUP)
        print(os.getpid(), flush=True)
        first.exec()

[listening] = heritage.sockets["unix:app.sock"]
[generation] = heritage.generations
[(place, [published])] = heritage.published.items()
descriptors = [*heritage.lifeline, listening.socket.fileno(), generation["control"]]
descriptors.append(published.socket.fileno())
descriptors += generation["workers"][0]["descriptors"]
[sidecar] = heritage.sidecars
descriptors += [sidecar["program"]["lifeline"], *sidecar["program"]["streams"].values()]
print(json.dumps({
    "pid": os.getpid(),
    "upgraded": [upgraded, is_upgrade()],
    "bind": heritage.bind,
    "address": str(listening.address),
    "published": [place, published.listens and published.address.port != 0],
    "is_blocking": listening.socket.getblocking(),
    "owned_file": listening.owned_file,
    "lifeline": os.read(heritage.lifeline[0], 100).decode(),
    "generation": generation,
    "tally": heritage.tally,
    "started_at": heritage.started_at,
    "inheritable": [it for it in descriptors if os.get_inheritable(it)],
    "open": sorted(open_files()),
    "expected": sorted(descriptors),
    "all_blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []) >= SERVER_SIGNALS,
    "pending": sorted(signal.sigpending()),
    "arguments": sys.argv[1:],
}))
listening.close()
published.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_exec_hands_on_what_the_process_has(tmp_path: Path) -> None:
    path = tmp_path / "s"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(second)
    assert found["pid"] == int(first)
    assert found["upgraded"] == [True, False]
    assert found["arguments"] == [str(path)]
    assert found["bind"] == ["unix:app.sock"]
    assert found["address"] == f"unix:{path}"
    assert found["published"] == ["status_bind 127.0.0.1:0", True]
    assert not found["is_blocking"]
    assert found["lifeline"] == "alive"
    assert found["generation"]["number"] == 3
    assert found["generation"]["workers"][0]["pid"] == 7
    assert (found["tally"], found["started_at"]) == ({"crashed": 4}, 12.5)
    # Open is what was handed on, standard input and so on, and the directory that tells so; programs
    # that are started later inherit none of it.
    assert set(found["expected"]) < set(found["open"])
    assert len(found["open"]) == len(found["expected"]) + 4
    assert found["inheritable"] == []
    # A signal that came while nobody took signals waits for who does.
    assert found["all_blocked"]
    assert found["pending"] == [signal.SIGHUP]
    # The socket's file is still known as ours.
    assert not path.exists()


def test_ordinary_start_takes_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not is_upgrade()
    assert Heritage.from_environment() is None
    monkeypatch.setenv(VARIABLE, "nonsense")
    assert Heritage.from_environment() is None
    assert VARIABLE not in os.environ


def test_exec_that_fails_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    lifeline = os.pipe()
    try:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            address = TcpAddress(*listening.getsockname())
            heritage = Heritage(
                ["one"], {"one": [ListeningSocket(listening, address)]}, lifeline, [], {}, 0.0
            )
            files = count_files()
            with pytest.raises(FileNotFoundError):
                heritage.exec()
            assert count_files() == files
            assert not any(map(os.get_inheritable, (*lifeline, listening.fileno())))
            assert not is_upgrade()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for descriptor in lifeline:
            os.close(descriptor)


def count_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_takeover_needs_the_same_form_and_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REHEARSAL_VARIABLE, FORM)
    check_takeover(Settings(workers=1))
    with pytest.raises(SettingsError, match="--workers 0"):
        check_takeover(Settings(workers=0))
    monkeypatch.setenv(REHEARSAL_VARIABLE, "another")
    with pytest.raises(SettingsError, match="restart"):
        check_takeover(Settings(workers=1))
