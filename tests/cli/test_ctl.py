"""``uwsgibridge ctl``: whom it asks, what it says, and its exit status."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from tests.control_server import FakeSupervisor, control_directory, running_control
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.cli import main
from uwsgibridge.cli.status_table import format_status
from uwsgibridge.control import server as control
from uwsgibridge.control.commands import COMMANDS
from uwsgibridge.control.path import default_control_path


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory, and a directory for sockets, in which nothing is."""
    with control_directory() as path:
        monkeypatch.chdir(path)
        monkeypatch.setattr(tempfile, "tempdir", str(path))
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.delenv("UWSGIBRIDGE_CONTROL_SOCKET", raising=False)
        yield path


@pytest.fixture
def supervisor() -> FakeSupervisor:
    return FakeSupervisor()


@pytest.fixture
def path(directory: Path, supervisor: FakeSupervisor) -> Iterator[Path]:
    """The socket of a running supervisor, where it is not found without being named."""
    with running_control(directory / "control.sock", supervisor):
        yield directory / "control.sock"


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["ctl", *arguments], env=environment)


def ctl(path: Path, *arguments: str) -> Result:
    return run("--control-socket", str(path), *arguments)


def succeed(result: Result) -> str:
    assert (result.stderr, result.exit_code) == ("", 0), result.output
    return result.stdout


def fail(result: Result, status: int = 1) -> str:
    assert result.exit_code == status, result.output
    assert status == 2 or result.stderr.startswith("Error: ")
    return " ".join(result.stderr.split())


# What it says.


def test_status_shows_the_table(path, supervisor):
    assert succeed(ctl(path, "status")) == format_status(supervisor.status_answer) + "\n"


def test_json_may_stand_before_and_after_the_subcommand(path, supervisor):
    for arguments in (["--json", "status"], ["status", "--json"]):
        assert json.loads(succeed(ctl(path, *arguments))) == {
            "ok": True,
            **supervisor.status_answer,
        }


def test_requests_are_a_table_that_commands_no_terminal(path, supervisor):
    assert succeed(ctl(path, "requests")).splitlines() == [
        "    AGE PHASE       WORKER THREAD APPLICATION      METHOD PATH",
        "      - stuck           13 -      -                GET    /loop",
        " 75.5 s application     12 wsgi-1 shop.wsgi        POST   /orders/\\x1b[2Jnew",
        '      File "/srv/shop/views.py", line 12, in new',
        "12.3 ms websocket       12 Task-7 live:app         GET    /live/prices",
        "",
        "3 more are left out: --limit shows more of them.",
        "",
        "stuck: the worker does not answer; 'ctl stacks' shows where it is.",
    ]
    answer = json.loads(
        succeed(ctl(path, "requests", "--json", "--older", "1m", "--limit", "7", "--stacks"))
    )
    assert (len(answer["requests"]), answer["left_out"]) == (3, 3)
    assert supervisor.asked == [("requests", 100, 0.0, False), ("requests", 7, 60.0, True)]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--limit", "0"], "0 is not in the range 1<=x<=10000"),
        (["--older", "-1"], "-1 must be at least 0 seconds"),
    ],
)
def test_a_number_of_requests_that_makes_no_sense(path, arguments, wrong):
    assert wrong in fail(ctl(path, "requests", *arguments), 2)


def test_a_supervisor_that_is_older_than_the_command(path, monkeypatch):
    known = {name: it for name, it in COMMANDS.items() if name != "requests"}
    monkeypatch.setattr(control, "COMMANDS", known)
    error = fail(ctl(path, "requests"))
    assert error.startswith("Error: there is no command 'requests'; there are status, ")
    assert error.endswith("the supervisor is of an older version: SIGUSR2 upgrades it in place")


def test_config_says_where_each_option_came_from(path):
    assert succeed(ctl(path, "config")).splitlines() == [
        "--bind  unix:/a       command line",
        "--env   KEY=(hidden)  file (/u.toml)",
    ]
    assert "--preload  no            default" in succeed(ctl(path, "config", "--all"))
    assert len(json.loads(succeed(ctl(path, "config", "--json")))["options"]) == 3


def test_reopen_names_the_files(path, supervisor):
    assert succeed(ctl(path, "reopen")) == "Opened anew: /var/log/app.log\n"
    supervisor.refusal = "nothing to open anew: there is no log file"
    assert fail(ctl(path, "reopen")) == f"Error: {supervisor.refusal}"


def test_kill_waits_for_the_end_of_the_worker(path, supervisor):
    assert succeed(ctl(path, "kill", "12")) == "The worker 12 has ended.\n"
    assert json.loads(succeed(ctl(path, "kill", "12", "--now", "--json")))["ended"] == 12
    assert supervisor.asked == [("kill", 12, False), ("kill", 12, True)]
    supervisor.held = trio.Event()
    error = fail(ctl(path, "kill", "12", "--timeout-seconds", "0.05"))
    assert "gave no answer to kill within 0.05 s: the worker still drains" in error
    assert "'some' is not a valid integer range" in fail(ctl(path, "kill", "some"), 2)


def test_kill_of_no_worker(path, supervisor):
    supervisor.refusal = "no worker has the pid 9; there are 12, 13"
    assert fail(ctl(path, "kill", "9")) == "Error: no worker has the pid 9; there are 12, 13"


def test_reload_waits_until_the_code_is_in_service(path, supervisor):
    assert succeed(ctl(path, "reload")) == "Reloaded: the new code is in service.\n"
    assert json.loads(succeed(ctl(path, "reload", "--json"))) == {"ok": True, "reloaded": True}
    assert supervisor.asked == ["reload", "reload"]


def test_code_that_does_not_load_is_1_with_the_reason(path, supervisor):
    supervisor.refusal = "the new code does not load: No module named 'shop'"
    result = ctl(path, "reload")
    assert result.stdout == ""
    assert fail(result) == "Error: the new code does not load: No module named 'shop'"
    result = ctl(path, "reload", "--json")
    assert json.loads(result.stdout) == {"ok": False, "error": supervisor.refusal}
    assert fail(result) == "Error: the new code does not load: No module named 'shop'"


def test_a_reload_that_takes_longer(path, supervisor):
    supervisor.held = trio.Event()
    error = fail(ctl(path, "reload", "--timeout-seconds", "0.05"))
    assert f"{path} gave no answer to reload within 0.05 s" in error
    assert "--timeout-seconds waits longer" in error


def test_scale_changes_the_number_of_workers(path, supervisor):
    assert succeed(ctl(path, "scale", "4")) == "Workers wanted: 4.\n"
    assert json.loads(succeed(ctl(path, "scale", "4", "--json"))) == {"ok": True, "workers": 4}
    assert supervisor.asked == [("scale", 4)] * 2
    assert fail(ctl(path, "scale", "1001")) == "Error: workers is a whole number from 1 to 1000"


def test_stop_waits_for_the_end(path, supervisor):
    assert succeed(ctl(path, "stop")) == "The supervisor (pid 1) has stopped.\n"
    assert supervisor.asked[:2] == ["status", "stop"]
    assert supervisor.ends.is_set()


def test_stop_waits_no_longer_than_it_may(path, supervisor):
    supervisor.ends_on_stop = False
    error = fail(ctl(path, "stop", "--timeout-seconds", "0.1"))
    assert error.startswith("Error: The supervisor (pid 1) still runs after 0.1 s")
    assert "--timeout-seconds waits longer" in error


def test_stop_waits_through_the_drain_delay(path, supervisor):
    supervisor.ends_on_stop = False
    supervisor.stopping_state = "draining"
    assert "--drain-delay-seconds" in fail(ctl(path, "stop", "--timeout-seconds", "0.1"))


def test_stop_returns_at_once_where_it_is_not_to_wait(path, supervisor):
    supervisor.ends_on_stop = False
    assert succeed(ctl(path, "stop", "--no-wait")) == "The supervisor (pid 1) stops.\n"
    assert json.loads(succeed(ctl(path, "stop", "--no-wait", "--json")))["stopping"] is True


def test_stop_waits_on_when_the_supervisor_drops_a_silent_client(path, supervisor, monkeypatch):
    monkeypatch.setattr(control, "CLIENT_TIMEOUT_SECONDS", 0.01)
    supervisor.ends_on_stop = False
    assert "still runs" in fail(ctl(path, "stop", "--timeout-seconds", "0.2"))
    assert supervisor.asked.count("status") > 2


def test_a_supervisor_that_refuses_to_say_how_it_is_is_still_there(directory):
    class Confused(FakeSupervisor):
        async def stop(self) -> dict[str, object]:
            self.fault = RuntimeError("x")
            return {"stopping": True}

    path = directory / "control.sock"
    with running_control(path, Confused()):
        assert "see the log" in fail(ctl(path, "stop"))


def test_a_successor_at_the_same_path_is_not_waited_for(directory):
    class Successor(FakeSupervisor):
        """It has come as soon as the one that was asked to stop has gone."""

        async def stop(self) -> dict[str, object]:
            self.status_answer |= {"pid": 2, "state": "running"}
            return {"stopping": True}

    path = directory / "control.sock"
    with running_control(path, Successor()):
        assert succeed(ctl(path, "stop")) == "The supervisor (pid 1) has stopped.\n"


def test_stacks_are_shown_for_each_process(path):
    assert succeed(ctl(path, "stacks")) == (
        "== supervisor, pid 1 ==\n"
        "File supervisor.py\n"
        "\n"
        "== worker, pid 12 ==\n"
        "File app.py\n"
        "  slow()\n"
    )
    assert len(json.loads(succeed(ctl(path, "stacks", "--json")))["processes"]) == 2


def test_top_shows_rates_from_the_second_look_on(path, supervisor, monkeypatch):
    async def status() -> dict[str, object]:
        """Each answer is a second and 50 requests after the one before."""
        supervisor.status_answer["started_seconds_ago"] += 1
        supervisor.status_answer["requests"] += 50
        return dict(supervisor.status_answer)

    monkeypatch.setattr(supervisor, "status", status)
    output = succeed(ctl(path, "top", "--count", "3", "--interval-seconds", "0.1"))
    assert "\x1b" not in output
    assert output.count("REQ/S") == 3
    assert output.count("requests a second: -") == 1
    assert output.count("requests a second: 50.0") == 2
    lines = succeed(ctl(path, "top", "--json", "--count", "1")).splitlines()
    assert [json.loads(line)["pid"] for line in lines] == [1]


def test_top_ends_at_ctrl_c_without_a_word(path):
    process = subprocess.Popen(
        [sys.executable, "-m", "uwsgibridge", "ctl", "--control-socket", str(path), "top"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        watchdog = threading.Timer(3 * PATIENCE_SECONDS, process.kill)
        watchdog.start()
        assert process.stdout is not None
        assert process.stdout.readline().startswith("mysite.wsgi: running")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        watchdog.cancel()
        watchdog.join()
    assert (errors, process.returncode) == ("", 0)


def test_top_ends_when_the_supervisor_does(path, supervisor):
    supervisor.fault = RuntimeError("x")
    assert "see the log" in fail(ctl(path, "top"))


# Whom it asks.


def test_the_only_one_that_runs_is_found(supervisor):
    path = default_control_path(42)
    assert path is not None
    with running_control(path, supervisor):
        assert "pid 1" in succeed(run("status"))


def test_a_missing_supervisor_is_told():
    assert fail(run("status")) == (
        "Error: No supervisor with a control socket runs as this user: name the socket with "
        "--control-socket PATH."
    )


def test_directory_that_is_not_looked_into_is_named():
    path = default_control_path(42)
    assert path is not None
    path.parent.chmod(0o755)
    assert fail(run("status")).endswith(
        f"PATH. Not looked into: {path.parent}: its mode is 755, not 700: others could pose as the supervisor."
    )


def test_of_several_supervisors_one_has_to_be_named():
    supervisors = {42: FakeSupervisor(), 43: FakeSupervisor()}
    supervisors[43].status_answer |= {"pid": 43, "name": "shop:app"}
    supervisors[42].fault = RuntimeError("x")
    paths = [default_control_path(pid) for pid in supervisors]
    with ExitStack() as stack:
        for path, supervisor in zip(paths, supervisors.values(), strict=True):
            assert path is not None
            stack.enter_context(running_control(path, supervisor))
        result = run("stop")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: Several supervisors run: choose one with --control-socket\n"
        f"  {paths[0]}  (the command failed for a reason that was not foreseen: see the log)\n"
        f"  {paths[1]}  (pid 43, shop:app)\n"
    )
    assert supervisors[43].asked == ["status"]


def test_the_option_may_follow_the_subcommand(path):
    assert "pid 1" in succeed(run("status", "--control-socket", str(path)))


def test_the_environment_and_the_file_name_it(path, directory):
    assert "pid 1" in succeed(run("status", UWSGIBRIDGE_CONTROL_SOCKET=str(path)))
    for key in ("control_socket", "control-socket"):
        (directory / "uwsgibridge.toml").write_text(f'workers = 4\n{key} = "{path}"\n')
        assert "pid 1" in succeed(run("status"))


def test_the_option_goes_before_the_environment_and_that_before_the_file(path, directory):
    other = "/nonexistent/control.sock"
    (directory / "uwsgibridge.toml").write_text(f'control_socket = "{other}"')
    environment = {"UWSGIBRIDGE_CONTROL_SOCKET": str(path)}
    assert "pid 1" in succeed(run("status", **environment))
    assert other in fail(run("--control-socket", other, "status", **environment))
    assert other in fail(run("status", "--control-socket", other, **environment))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("control_socket = 3", "uwsgibridge.toml: --control-socket takes a text in quotes, not 3."),
        ("control_socket", "uwsgibridge.toml: Expected '='"),
        ('control_socket = "none"', "The control socket is switched off: it is set to 'none'"),
    ],
)
def test_a_file_that_makes_no_sense_is_wrong_usage(text, sentence, directory):
    (directory / "uwsgibridge.toml").write_text(text)
    assert sentence in fail(run("status"), 2)


def test_a_socket_that_nobody_listens_on(directory):
    path = directory / "stale.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert fail(ctl(path, "status")) == (f"Error: Nobody listens at {path}: its supervisor is gone")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["restart"], "there is no command 'restart': did you mean reload?"),
        (["bogus"], "No such command 'bogus'"),
        (["scale"], "Missing argument 'WORKERS'"),
        (["scale", "0"], "0 is not in the range x>=1"),
        (["scale", "many"], "'many' is not a valid integer"),
        (["reload", "--timeout-seconds", "0"], "0 must be at least 0.001 seconds"),
        (["stop", "--timeout-seconds", "nan"], "nan must be at least 0."),
        (["top", "--interval-seconds", "nan"], "nan must be at least 0."),
        (["top", "--count", "0"], "0 is not in the range x>=1"),
    ],
)
def test_wrong_usage_is_2(arguments, sentence, path, supervisor):
    assert sentence in fail(ctl(path, *arguments), 2)
    assert supervisor.asked == []


def test_it_is_in_the_help():
    result = CliRunner().invoke(main, ["--help"])
    assert "ctl" in result.stdout
    assert "uwsgibridge ctl status --json\n" in succeed(run("--help"))
