"""A start under guard: what it makes of a command line, and what becomes of a program that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.supervisor import takeover_guard
from uwsgibridge.supervisor.takeover_guard import command, split


@pytest.mark.parametrize(
    ("arguments", "flags", "kind", "program"),
    [
        (["python", "-m", "one", "-m"], [], "-m", ["one", "-m"]),
        (["python", "-X", "dev", "-P", "-m", "one"], ["-X", "dev", "-P"], "-m", ["one"]),
        (["python", "-Wignore", "-c", "pass", "x"], ["-Wignore"], "-c", ["pass", "x"]),
        (["python", "/bin/one", "serve"], [], "", ["/bin/one", "serve"]),
        (["python", "-W", "ignore", "/bin/one"], ["-W", "ignore"], "", ["/bin/one"]),
    ],
)
def test_a_command_line_is_taken_apart(
    arguments: list[str], flags: list[str], kind: str, program: list[str]
) -> None:
    assert split(arguments) == (flags, kind, program)
    rest = arguments[1 + len(flags) :]
    assert command(arguments, 9) == [sys.executable, *flags, "/proc/self/fd/9", *rest]


def run(directory: Path, *arguments: str, reason: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command line under guard; the old program is a module `one` that tells what it finds."""
    archive = os.open(directory, os.O_RDONLY)  # a directory serves as well
    guard = os.open(takeover_guard.__file__, os.O_RDONLY)
    handed_on = os.memfd_create("handed-on")
    os.write(handed_on, b"handed on")
    told = {
        "arguments": ["python", *arguments], "code": archive, "guard": guard,
        "signals": [], "seconds": 1.0, "reason": reason,
    }  # fmt: skip
    try:
        return subprocess.run(
            command(told["arguments"], guard),  # type: ignore[arg-type]
            env={
                **os.environ,
                takeover_guard.VARIABLE: json.dumps(told),
                "HANDED_ON": str(handed_on),
            },
            pass_fds=(archive, guard, handed_on),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    finally:
        for descriptor in (archive, guard, handed_on):
            os.close(descriptor)


OLD = """
import json, os, sys
guard = sys.modules["_uwsgibridge_takeover"].guard
handed_on = int(os.environ["HANDED_ON"])
found = [sys.argv[1:], os.pread(handed_on, 99, 0).decode(), sys.orig_argv, os.getcwd()]
print(json.dumps([guard.reason, *found]))
guard.taken_over()
sys.exit(7)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="by /proc/self/fd")
@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("import os, sys; os.close(int(os.environ['HANDED_ON'])); sys.exit(3)", "it ended with status 3"),
        ("pass", "it ended"),
        ("import threading; threading.Event().wait()", "it has not taken over within 1 s"),
        ("(", "SyntaxError: '(' was never closed"),
        ("import os; os.chdir('/'); raise ValueError('elsewhere')", "ValueError: elsewhere"),
    ],
)  # fmt: skip
def test_a_program_that_fails_becomes_the_old_one(tmp_path: Path, new: str, reason: str) -> None:
    # The old program is the command line, too: what it comes to is found in its own modules first.
    (tmp_path / "one.py").write_text(OLD)
    name = tmp_path / "new"
    name.mkdir()
    (name / "one.py").write_text(new)
    done = run_in(name, tmp_path)
    assert done.returncode == 7, done.stderr
    told = json.loads(done.stdout)
    assert told == [told[0], ["x"], "handed on", ["python", "-m", "one", "x"], str(name.resolve())]
    assert reason in told[0]


def run_in(current: Path, old: Path) -> subprocess.CompletedProcess[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(current)
        return run(old, "-m", "one", "x")


@pytest.mark.skipif(sys.platform != "linux", reason="by /proc/self/fd")
def test_a_program_that_has_taken_over_stands_for_itself(tmp_path: Path) -> None:
    new = (
        "import sys, os\n"
        "guard = sys.modules['_uwsgibridge_takeover'].guard\n"
        "guard.taken_over()\nguard.taken_over()\n"
        # That of the list itself is closed again.
        "found = [int(it) for it in os.listdir('/proc/self/fd')]\n"
        "found = [it for it in found if it > 2 and os.path.lexists(f'/proc/self/fd/{it}')]\n"
        "print(found == [int(os.environ['HANDED_ON'])])\n"
        "raise ValueError('of its own')\n"
    )
    done = run(tmp_path, "-c", new)
    assert (done.returncode, done.stdout) == (1, "True\n")
    assert "ValueError: of its own" in done.stderr
