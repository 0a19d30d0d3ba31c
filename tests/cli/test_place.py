"""Where a service runs and with which variables: whole processes, through reloads and upgrades in place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.forked_command import run_command
from tests.other_users import NOBODY, need_root, the_user_can_run_python
from tests.raw_client import ask

# Tells what it finds: as it was imported, in the hook of the worker, and in the request.
APPLICATION = """
import json
import os
import sys

def look():
    return {"directory": os.getcwd(), "variables": dict(os.environ)}

if os.environ.get("EX_STALE") == "refused":
    raise ValueError("EX_STALE")

imported, forked = look(), None

def fork():
    global forked
    forked = look()

def app(environ, start_response):
    start_response("200 OK", [])
    found = {"version": VERSION, "imported": imported, "forked": forked, "now": look(), "pid": os.getpid()}
    found["hash"] = hash("text")
    found["path"] = sys.path
    return [json.dumps(found).encode()]
"""

SERVE = ("serve", "site_:app", "--on-fork", "site_:fork", "--control-socket", "none")

with_each_number_of_workers = pytest.mark.parametrize(
    "workers",
    [("--workers", "0"), ("--workers", "1"), ("--workers", "1", "--preload")],
    ids=" ".join,
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """With a path that is short enough for a socket, and an application below it."""
    with tempfile.TemporaryDirectory() as path:
        real = Path(path).resolve()
        write(real / "below", "one")
        yield real


def write(place: Path, version: str) -> None:
    place.mkdir(exist_ok=True)
    (place / "site_.py").write_text(APPLICATION.replace("VERSION", repr(version)))


def ask_it(address: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(address).body)
    assert found["imported"] == found["forked"] == found["now"]
    return found


def reload(process: BridgeProcess, address: str, number: signal.Signals = signal.SIGHUP) -> None:
    """Have the worker replaced, by a reload or an upgrade in place, and wait until the old one is gone."""
    before = len(process.events.find(event="reloaded"))
    worker = ask_it(address)["pid"]
    process.signal(number)
    process.events.wait_many(before + 1, event="reloaded")
    process.events.wait(event="stopped", worker=worker)


# --chdir


@with_each_number_of_workers
def test_all_paths_are_relative_to_the_directory(directory: Path, workers: tuple[str, ...]) -> None:
    with running_process(
        *SERVE, *workers, "--chdir", "below", "--bind", "unix:s", "--pid-file", "p", "--offload", "/x=.",
        directory=directory,
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        below = directory / "below"
        found = ask_it(f"unix:{below}/s")
        assert found["now"]["directory"] == str(below)
        assert int((below / "p").read_text()) == process.pid
        if "0" not in workers:
            reload(process, f"unix:{below}/s")
            again = ask_it(f"unix:{below}/s")
            assert again["now"]["directory"] == str(below)
            assert again["path"] == found["path"]
            assert again["pid"] != found["pid"]
        assert process.stop() == 0
    assert not (below / "p").exists()


def test_the_file_of_options_is_that_of_the_start(directory: Path) -> None:
    (directory / "uwsgibridge.toml").write_text("chdir = 'below'\nbind = ['unix:s']\n")
    (directory / "below" / "uwsgibridge.toml").write_text("nonsense = 1\n")
    with running_process(*SERVE, directory=directory) as process:
        process.events.wait(event="listening")
        assert ask_it(f"unix:{directory}/below/s")["now"]["directory"] == f"{directory}/below"


def test_an_upgrade_begins_where_the_first_start_was(directory: Path) -> None:
    (directory / "uwsgibridge.toml").write_text("chdir = 'below'\nenv = ['EX_A=1']\n")
    with running_process(
        *SERVE, "--workers", "1", "--bind", "unix:s", "--pid-file", "p", "--offload", "/x=.",
        directory=directory,
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        for number in (1, 2):
            reload(process, f"unix:{directory}/below/s", signal.SIGUSR2)
            process.events.wait_many(number, event="upgraded")
            found = ask_it(f"unix:{directory}/below/s")
            assert found["now"]["directory"] == f"{directory}/below"
            assert chosen(found) == {"EX_A": "1"}
        assert process.stop() == 0
        assert not (directory / "below" / "p").exists()


def test_an_upgrade_fails_where_that_directory_is_gone(directory: Path) -> None:
    start = directory / "start"
    start.mkdir()
    with running_process(
        *SERVE,
        "--workers",
        "1",
        "--chdir",
        str(directory / "below"),
        "--bind",
        "unix:s",
        directory=start,
    ) as process:
        process.events.wait(event="listening")
        start.rmdir()
        process.signal(signal.SIGUSR2)
        failed = process.events.wait(
            event="upgrade failed: the program that is installed now does not start"
        )
        assert str(start) in failed["output"]
        ask_it(f"unix:{directory}/below/s")
        assert process.stop() == 0


def test_a_link_is_followed_anew_by_a_reload(directory: Path) -> None:
    write(directory / "new", "two")
    link = directory / "current"
    link.symlink_to("below")
    with running_process(
        *SERVE,
        "--workers",
        "1",
        "--chdir",
        "current",
        "--bind",
        f"unix:{directory}/s",
        directory=directory,
    ) as process:
        process.events.wait(event="listening")
        assert ask_it(f"unix:{directory}/s")["version"] == "one"
        (directory / "other").symlink_to("new")
        (directory / "other").rename(link)
        reload(process, f"unix:{directory}/s")
        found = ask_it(f"unix:{directory}/s")
        assert (found["version"], found["now"]["directory"]) == ("two", f"{directory}/new")
        # A reload that finds no directory leaves what serves alone.
        link.unlink()
        process.signal(signal.SIGHUP)
        process.events.wait(event="reload failed: the old code goes on")
        assert (
            f"Error: --chdir {directory}/current: No such file or directory"
            in process.events.other_text()
        )
        assert ask_it(f"unix:{directory}/s")["version"] == "two"


@pytest.mark.parametrize(
    ("place", "said"),
    [("missing", "No such file or directory"), ("below/site_.py", "Not a directory")],
)
def test_no_directory(directory: Path, place: str, said: str) -> None:
    status, output = run_command(*SERVE, "--chdir", place, directory=directory)
    assert status == 2
    assert f"Error: --chdir {place}: {said}" in output
    assert "Traceback" not in output


@need_root
def test_a_start_by_root_in_a_directory_of_its_own(directory: Path) -> None:
    """The user may neither enter the directory of the start nor read the file of variables."""
    if not the_user_can_run_python():
        pytest.skip("the user can't start this Python")
    directory.chmod(0o755)
    own = directory / "own"
    own.mkdir(mode=0o700)
    (own / "app.env").write_text("EX_A=1\n")
    (own / "app.env").chmod(0o600)
    below = directory / "below"
    os.chown(below, NOBODY, NOBODY)
    with running_process(
        *SERVE, "--workers", "1", "--chdir", "../below", "--bind", "unix:s", "--user", str(NOBODY), "--group", str(NOBODY),
        "--env-file", f"{own}/app.env", directory=own, environment={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        assert chosen(ask_it(f"unix:{below}/s")) == {"EX_A": "1"}
        reload(process, f"unix:{below}/s")
        found = ask_it(f"unix:{below}/s")
        assert (chosen(found), found["now"]["directory"]) == ({"EX_A": "1"}, str(below))
        # An upgrade begins in the directory of the start, and can't.
        process.signal(signal.SIGUSR2)
        failed = process.events.wait(
            event="upgrade failed: the program that is installed now does not start"
        )
        assert f"Permission denied: '{own}'" in failed["output"]
        assert process.stop() == 0


# --env and --env-file


@pytest.mark.skipif(sys.platform != "linux", reason="by /proc")
def test_a_title_is_shown_all_the_same(directory: Path) -> None:
    """Its place in memory is found by the environment of the start."""
    (directory / "app.env").write_text(f"EX_A={'x' * 10_000}\n")
    with running_process(
        *SERVE, "--workers", "1", "--bind", "unix:s", "--app-dir", "below", "--title", "mine", "--env-file", "app.env",
        "--env", "HOME", directory=directory,
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        pids = {process.pid, process.events.wait(event="worker started")["pid"]}
        titles = {Path(f"/proc/{pid}/cmdline").read_bytes().strip(b"\0") for pid in pids}
        assert titles == {b"mine: supervisor", b"mine: worker"}


def chosen(found: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: value for name, value in found["now"]["variables"].items() if name.startswith("EX_")
    }


@with_each_number_of_workers
def test_variables_are_there_before_the_application(
    directory: Path, workers: tuple[str, ...]
) -> None:
    (directory / "one.env").write_text("EX_A=file\nEX_B=file\nEX_C=file # all of it\nEX_F=file\n")
    (directory / "two.env").write_text("EX_B=second\n")
    with running_process(
        *SERVE, *workers, "--bind", "unix:s", "--app-dir", "below", "--env-file", "one.env",
        "--env-file", "two.env", "--env", "EX_A=given", "--env", "EX_D", "--env", "EX_E =x=y", "--env", "EX_F",
        directory=directory, environment={"EX_A": "own", "EX_B": "own", "EX_D": "own", "EX_G": "own"},
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        expected = {
            "EX_A": "given", "EX_B": "second", "EX_C": "file # all of it", "EX_E ": "x=y", "EX_G": "own",
        }  # fmt: skip
        assert chosen(ask_it(f"unix:{directory}/s")) == expected
        if "0" not in workers:
            reload(process, f"unix:{directory}/s")
            assert chosen(ask_it(f"unix:{directory}/s")) == expected


def test_an_upgrade_reads_the_files_anew(directory: Path) -> None:
    file = directory / "app.env"
    file.write_text("EX_A=1\nEX_B=1\nEX_STALE=1\n")
    with running_process(
        *SERVE, "--workers", "1", "--bind", "unix:s", "--app-dir", "below", "--env-file", "app.env",
        directory=directory, environment={"EX_B": "own"},
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        assert chosen(ask_it(f"unix:{directory}/s")) == {
            "EX_A": "1", "EX_B": "1", "EX_STALE": "1",
        }  # fmt: skip
        file.write_text("EX_A=2\n")
        reload(process, f"unix:{directory}/s")
        assert chosen(ask_it(f"unix:{directory}/s"))["EX_A"] == "1"
        application = directory / "below" / "site_.py"
        application.write_text(application.read_text().replace('== "refused"', '== "1"'))
        reload(process, f"unix:{directory}/s", signal.SIGUSR2)
        # What the file no longer has is as it was at the first start, also where the new program is tried out.
        assert chosen(ask_it(f"unix:{directory}/s")) == {"EX_A": "2", "EX_B": "own"}
        file.write_text("EX_A='3'\n")
        process.signal(signal.SIGUSR2)
        failed = process.events.wait(
            event="upgrade failed: the program that is installed now does not start"
        )
        assert "--env-file app.env, line 1: systemd removes the quotes" in failed["output"]
        assert chosen(ask_it(f"unix:{directory}/s"))["EX_A"] == "2"


def test_what_python_reads_at_its_start_holds_in_each_worker(directory: Path) -> None:
    expected = subprocess.run(
        [sys.executable, "-c", "print(hash('text'))"],
        env={**os.environ, "PYTHONHASHSEED": "5"}, capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    with running_process(
        *SERVE, "--workers", "1", "--bind", "unix:s", "--app-dir", "below", "--env", "PYTHONHASHSEED=5",
        directory=directory,
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        assert ask_it(f"unix:{directory}/s")["hash"] == int(expected)
        reload(process, f"unix:{directory}/s")
        assert ask_it(f"unix:{directory}/s")["hash"] == int(expected)


def test_what_comes_too_late_is_told(directory: Path) -> None:
    with running_process(
        *SERVE, "--workers", "0", "--bind", "unix:s", "--app-dir", "below", "--env", "PYTHONHASHSEED=5",
        "--env", "EX_A=1", directory=directory,
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        event = process.events.wait(
            event="variables come too late for this process, which has read them at its start"
        )
        assert event["variables"] == ["PYTHONHASHSEED"]
        assert ask_it(f"unix:{directory}/s")["now"]["variables"]["PYTHONHASHSEED"] == "5"


def test_values_are_not_logged(directory: Path) -> None:
    with running_process(
        *SERVE, "--bind", "unix:s", "--app-dir", "below", "--log-level", "debug", "--env", "EX_A=hidden",
        directory=directory,
    ) as process:  # fmt: skip
        event = process.events.wait(event="options that are not the default")
        assert event["--env"] == ["EX_A"]
        process.events.wait(event="listening")
        assert "hidden" not in process.events.text()


def test_very_many_variables_fit(directory: Path) -> None:
    """More than a message to a template has room for."""
    lines = [f"EX_{number}={'x' * 1000}" for number in range(100)]
    (directory / "app.env").write_text("\n".join(lines))
    given = [line.replace("EX_", "EX_G") for line in lines]
    (directory / "uwsgibridge.toml").write_text(f"env = {given}\nenv_file = ['app.env']\n")
    with running_process(
        *SERVE, "--workers", "1", "--bind", "unix:s", "--app-dir", "below", directory=directory
    ) as process:
        process.events.wait(event="listening")
        reload(process, f"unix:{directory}/s")
        assert len(chosen(ask_it(f"unix:{directory}/s"))) == 200


def test_a_very_long_command_line_is_no_obstacle(directory: Path) -> None:
    given = [part for number in range(70) for part in ("--env", f"EX_{number}={'x' * 1000}")]
    with running_process(
        *SERVE,
        "--workers",
        "1",
        "--bind",
        "unix:s",
        "--app-dir",
        "below",
        *given,
        directory=directory,
    ) as process:
        process.events.wait(event="listening")
        reload(process, f"unix:{directory}/s")
        assert len(chosen(ask_it(f"unix:{directory}/s"))) == 70
        reload(process, f"unix:{directory}/s", signal.SIGUSR2)
        assert len(chosen(ask_it(f"unix:{directory}/s"))) == 70


REFUSED = {
    "missing": ((), "--env-file app.env: No such file"),
    "EX_A='x'": ((), "--env-file app.env, line 1: systemd removes the quotes"),
    "UWSGIBRIDGE_WORKERS=3": (
        (), "--env-file app.env: UWSGIBRIDGE_WORKERS comes too late: options are read before; write --workers, or set",
    ),
    "UWSGIBRIDGE_NONSENSE=3": ((), "UWSGIBRIDGE_NONSENSE comes too late: options are read before; leave it out"),
    "UWSGIBRIDGE_PURE=1": ((), "UWSGIBRIDGE_PURE comes too late"),
    "WEB_CONCURRENCY=3": ((), "WEB_CONCURRENCY comes too late to be the default of --workers: write that option"),
    "EX_A=1": (("--env", "UWSGIBRIDGE_THREADS=3"), "--env: UWSGIBRIDGE_THREADS comes too late"),
    "EX_A=2": (("--env", "=3"), "--env names no variable: write NAME=VALUE"),
}  # fmt: skip


@pytest.mark.parametrize("content", REFUSED)
def test_variables_that_are_refused(directory: Path, content: str) -> None:
    arguments, said = REFUSED[content]
    if content != "missing":
        (directory / "app.env").write_text(content)
    # Without what the tests of whole processes have in the environment.
    status, output = run_command(
        *SERVE,
        "--env-file",
        "app.env",
        *arguments,
        directory=directory,
        environment={"UWSGIBRIDGE_WORKERS": "", "UWSGIBRIDGE_PURE": ""},
    )
    assert said in output
    assert "Traceback" not in output
    assert status == 2


def test_variables_that_are_in_force_already_are_no_conflict(directory: Path) -> None:
    """As where one file is both Docker's and the bridge's."""
    (directory / "app.env").write_text(
        "UWSGIBRIDGE_WORKERS=1\nUWSGIBRIDGE_PORT=tcp://10.0.0.1:3031\nWEB_CONCURRENCY=3\n"
    )
    with running_process(
        *SERVE, "--bind", "unix:s", "--app-dir", "below", "--env-file", "app.env",
        directory=directory, environment={"UWSGIBRIDGE_WORKERS": "1"},
    ) as process:  # fmt: skip
        assert process.events.wait(event="started")["workers"] == 1
        process.events.wait(event="listening")
        assert ask_it(f"unix:{directory}/s")["now"]["variables"]["WEB_CONCURRENCY"] == "3"
