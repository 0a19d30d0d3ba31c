"""A child that is forked from a process that serves: what it has, what it can be told, how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.log_events import PATIENCE_SECONDS

PRELUDE = """
import socket, sys
from uwsgibridge.application.forked_child import (
    kept_from_copies, exit_if_copy, exit_if_copy_raised,
)

def status_of_child(function):
    pid = os.fork()
    if not pid:
        try:
            function()
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def check(condition):
    os._exit(0 if condition else 1)
"""


def run(code: str, *, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program that ends well, with a process of its own to fork."""
    program = f"import os, signal\n{first}\n{PRELUDE}{textwrap.dedent(code)}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


# What it has.


def test_what_belongs_to_the_server_is_closed_by_the_server_alone():
    done = run("""
        ours, peer = socket.socketpair()
        listening = socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        reader, number = os.pipe()
        gone = socket.socket()
        gone.close()
        waiting, go_on = os.pipe()
        # The end of the pipe, which is waited for, comes last.
        with kept_from_copies(lambda: [listening]), kept_from_copies(lambda: [gone, ours, number]):
            pid = os.fork()
            if not pid:
                os.close(go_on)
                os.read(waiting, 1)
                os._exit(0)
        ours.close()
        listening.close()
        os.close(number)
        peer.settimeout(5)
        print(peer.recv(1), os.read(reader, 1))
        socket.create_server(address).close()
        os.close(go_on)
        print(os.waitpid(pid, 0)[1])
    """)
    assert done.stdout.split() == ["b''", "b''", "0"]


def test_numbers_of_the_server_mean_nothing_else_in_the_child():
    """An object of the server's that is closed late in the child must not close something of its own."""
    run("""
        ours, peer = socket.socketpair()
        number = ours.fileno()

        def child():
            opened = os.open("/dev/zero", os.O_RDONLY)
            ours.close()
            check(opened != number and os.read(opened, 1) == b"\\0")

        with kept_from_copies(lambda: [ours]):
            assert status_of_child(child) == 0
        peer.setblocking(False)
        ours.send(b"still open")
        assert peer.recv(10) == b"still open"
    """)


@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_where_nothing_is_served_a_child_is_left_as_it_is(when: str):
    served = "with kept_from_copies(lambda: [ours]): pass"
    run(f"""
        ours, peer = socket.socketpair()
        number = ours.fileno()
        {served if when == "after" else ""}

        def child():
            exit_if_copy(7)
            exit_if_copy_raised(ValueError("not told"))
            ours.send(b"of the child")
            check(True)

        assert status_of_child(child) == 0
        assert peer.recv(20) == b"of the child"
        {served if when == "before" else ""}
    """)


def test_what_serves_no_more_is_not_looked_at():
    run("""
        first, peer = socket.socketpair()
        second, _ = socket.socketpair()
        with kept_from_copies(lambda: [second]):
            with kept_from_copies(lambda: [first]):
                pass
            assert status_of_child(lambda: check(first.send(b"x") == 1)) == 0
            assert status_of_child(lambda: second.send(b"x")) == 99
    """)


# How it ends.


@pytest.mark.parametrize("status", [0, 3, 255])
def test_copy_leaves_with_the_status_and_what_it_has_printed(status: int):
    done = run(f"""
        with kept_from_copies(lambda: []):
            exit_if_copy(1)

            def child():
                print("printed by the child", end="")
                exit_if_copy({status})

            assert status_of_child(child) == {status}
            exit_if_copy(1)
    """)
    assert done.stdout == "printed by the child"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        ("SystemExit()", 0, ""),
        ("SystemExit(None)", 0, ""),
        ("SystemExit(3)", 3, ""),
        ("SystemExit(-1)", 255, ""),
        ("SystemExit(False)", 0, ""),
        ("SystemExit('farewell')", 1, "farewell\n"),
        ("ValueError('no good')", 1, "ValueError: no good\n"),
        ("KeyboardInterrupt()", 1, "KeyboardInterrupt\n"),
    ],
)
def test_copy_that_raises_ends_as_the_interpreter_would(error: str, status: int, told: str):
    done = run(f"""
        with kept_from_copies(lambda: []):
            exit_if_copy_raised({error})
            assert status_of_child(lambda: exit_if_copy_raised({error})) == {status}
            exit_if_copy_raised({error})
    """)
    assert done.stderr == told


@pytest.mark.parametrize(
    "spoil",
    [
        "sys.stdout = sys.stderr = None",
        "sys.stdout.close(), sys.stderr.close()",
        "print('x', end=''), os.close(1), os.close(2)",
        "setattr(sys, 'stdout', object())",
    ],
)
def test_copy_leaves_whatever_has_become_of_its_output(spoil: str):
    run(f"""
        def child():
            exec({spoil!r})
            exit_if_copy_raised(SystemExit("told to nobody"))

        with kept_from_copies(lambda: []):
            assert status_of_child(child) == 1
    """)


def test_child_that_begins_to_serve_is_a_server():
    run("""
        def child():
            with kept_from_copies(lambda: []):
                exit_if_copy(5)
                assert status_of_child(lambda: exit_if_copy(6)) == 6
            check(True)

        with kept_from_copies(lambda: []):
            assert status_of_child(child) == 0
    """)


# Signals.

HANDLERS = """
import trio
from uwsgibridge.system.signals import empty_handler

def of_the_application(*_):
    pass

signal.signal(signal.SIGUSR1, empty_handler)
signal.signal(signal.SIGUSR2, of_the_application)

async def fork_beside_a_receiver(child):
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return status_of_child(child)

def status_of_served_child(child):
    with kept_from_copies(lambda: []):
        return trio.run(fork_beside_a_receiver, child)
"""


def test_handlers_of_the_server_are_gone_and_those_of_the_application_stay():
    run(f"""{HANDLERS}
def child():
    assert signal.set_wakeup_fd(-1) == -1
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        assert signal.getsignal(number) == signal.SIG_DFL, number
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert signal.getsignal(signal.SIGUSR2) is of_the_application
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {{signal.SIGALRM}}
    check(True)

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
assert status_of_served_child(child) == 0
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {{signal.SIGALRM}}
assert signal.getsignal(signal.SIGUSR1) is empty_handler
""")


def test_signal_that_comes_at_once_ends_the_child():
    """Before its handlers are its own; a `multiprocessing.Pool` ends its workers that soon."""
    run(
        f"{HANDLERS}\n"
        "status = status_of_served_child(lambda: None)\n"
        "assert status == -signal.SIGTERM, status\n",
        # Before ours, which were registered by the import.
        first="os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))",
    )
