"""The commands of --on-start and --on-ready, with real processes and files."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from tests.log_events import PATIENCE_SECONDS
from tests.other_users import NOBODY, need_root
from uwsgibridge.commands import actions
from uwsgibridge.commands.actions import run_at_start, run_when_ready
from uwsgibridge.commands.pids import PIDS_OF_PROGRAMS
from uwsgibridge.commands.program import Program
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import EXIT_COMMAND, StartCommandFailed


def python(script: str) -> str:
    return f"exec:{sys.executable} -u -c '{script}'"


def run(
    function: Callable[..., Awaitable[None]],
    broken_off: Callable[[], Awaitable[None]] = trio.sleep_forever,
    **options: Any,
) -> list[Any]:
    """Run actions; give the log."""

    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            await function(Settings(**options), structlog.get_logger(), broken_off)

    with structlog.testing.capture_logs() as log:
        trio.run(main)
    return log


def failure(**options: Any) -> str:
    with pytest.raises(StartCommandFailed) as raised:
        run(run_at_start, **options)
    assert raised.value.exit_status == EXIT_COMMAND == 4
    return str(raised.value)


@pytest.mark.parametrize(
    ("function", "option"), [(run_at_start, "on_start"), (run_when_ready, "on_ready")]
)
def test_actions_come_in_order_and_their_output_is_in_the_log(
    tmp_path: Path, function: Any, option: str
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    steps = (
        f"touch:{first}",
        python(f'import os; print("seen", os.path.exists("{first}"))'),
        f"touch:{second}",
    )
    options: dict[str, Any] = {option: steps}
    log = run(function, **options)
    assert [it["event"] for it in log] == [
        "file touched", "command begins", "command wrote", "command has ended", "file touched",
    ]  # fmt: skip
    [line] = [it for it in log if it["event"] == "command wrote"]
    assert (line["stream"], line["text"]) == ("stdout", "seen True")
    assert line["command"] == Path(sys.executable).name
    assert line["option"] == f"--{option.replace('_', '-')}"
    assert second.exists()


def test_the_first_failure_ends_the_start(tmp_path: Path) -> None:
    script = 'import sys; print("no table", file=sys.stderr); sys.exit(3)'
    words = failure(on_start=(python(script), f"touch:{tmp_path}/never"))
    assert words == (
        f"--on-start {python(script)!r} failed: it ended with exit status 3; the last that it wrote:\nno table"
    )
    assert not (tmp_path / "never").exists()


def test_one_that_is_killed_is_a_failure() -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert failure(on_start=(python(script),)).endswith("failed: it was ended by SIGKILL")


def test_one_that_can_not_be_started_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/no/such/shell\n")
    (tmp_path / "script").chmod(0o755)
    assert failure(on_start=(f"exec:{tmp_path}/script",)).endswith(
        "failed: it can't be started: there is no such program, or its first line names an interpreter that is "
        "not there"
    )
    (tmp_path / "script").write_bytes(b"\0\1\2")
    assert failure(on_start=(f"exec:{tmp_path}/script",)).endswith(
        "failed: it can't be started: the system can't run it: a script begins with #! and its interpreter"
    )


# Says that it is there, and does not end at SIGTERM.
STUBBORN = 'import signal; signal.signal(signal.SIGTERM, lambda *_: print("asked")); print("up")\nwhile True: signal.pause()'


@pytest.mark.parametrize(
    "script", ['import signal; print("up"); signal.pause()', STUBBORN], ids=["obedient", "stubborn"]
)
def test_one_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(actions, "_END_SECONDS", 0.2)
    words = failure(on_start=(python(script),), on_start_seconds=0.5)
    assert "failed: it took longer than 0.5 s (--on-start-seconds)" in words


def test_one_that_can_not_be_killed_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "_END_SECONDS", 0.1)
    monkeypatch.setattr(Program, "kill", lambda _: None)
    try:
        words = failure(on_start=(python(STUBBORN),), on_start_seconds=0.5)
        assert "it took longer than 0.5 s" in words
    finally:
        [pid] = PIDS_OF_PROGRAMS
        PIDS_OF_PROGRAMS.clear()
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_failure_of_one_that_is_run_when_all_is_ready_is_told_and_the_next_one_is_run(
    tmp_path: Path,
) -> None:
    script = 'print("cold"); raise SystemExit(1)'
    log = run(run_when_ready, on_ready=(python(script), f"touch:{tmp_path}/after"))
    [failed] = [it for it in log if it["event"] == "command failed"]
    assert failed["log_level"] == "error"
    assert (failed["reason"], failed["output"]) == ("it ended with exit status 1", "cold")
    assert (tmp_path / "after").exists()


@pytest.mark.parametrize(
    ("function", "option"), [(run_at_start, "on_start"), (run_when_ready, "on_ready")]
)
def test_a_stop_ends_the_running_one_and_leaves_out_the_rest(
    tmp_path: Path, function: Any, option: str
) -> None:
    up = tmp_path / "up"

    async def broken_off() -> None:
        while not up.exists():
            await trio.lowlevel.checkpoint()

    script = f'import signal; open("{up}", "w").close(); signal.pause()'
    steps = (python(script), f"touch:{tmp_path}/never")
    log = run(function, broken_off, **{option: steps})
    failed = [it["reason"] for it in log if it["event"] == "command failed"]
    assert failed == (["it was broken off by a stop or an upgrade"] if option == "on_ready" else [])
    assert not (tmp_path / "never").exists()


def test_touch_sets_the_time_of_a_file_and_leaves_its_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("as it was")
    os.utime(path, (1, 1))
    run(run_at_start, on_start=(f"touch:{path}",))
    assert path.read_text() == "as it was"
    assert path.stat().st_mtime > 1
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "made")
    run(run_at_start, on_start=(f"touch:{link}", f"touch:{tmp_path}"))
    assert (tmp_path / "made").exists()


def test_touch_says_why_it_can_not(tmp_path: Path) -> None:
    assert failure(on_start=(f"touch:{tmp_path}/no/file",)) == (
        f"--on-start 'touch:{tmp_path}/no/file' failed: there is no directory {tmp_path}/no; create it first"
    )


@need_root
def test_root_follows_no_link_of_another_user(directory: Path) -> None:
    (directory / "theirs").mkdir()
    os.chown(directory / "theirs", NOBODY, NOBODY)
    (directory / "theirs/ready").symlink_to(directory / "made")
    os.chown(directory / "theirs/ready", NOBODY, NOBODY, follow_symlinks=False)
    words = failure(on_start=(f"touch:{directory}/theirs/ready",))
    assert "does not follow the link" in words
    assert not (directory / "made").exists()
