"""What permissions unix sockets get where no chmod-socket says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.uwsgi.planning import plan_of, verdicts
from uwsgibridge.migration.plan import Verdict
from uwsgibridge.migration.uwsgi.reading import read_configuration
from uwsgibridge.migration.uwsgi.table import make_plan

FILE = "socket = run/app.sock"


@pytest.mark.parametrize(
    ("lines", "mode"),
    [
        ([FILE, "umask = 000"], "777"),
        ([FILE, "umask = 0000"], "777"),
        (["umask = 020", FILE], "757"),
        ([FILE, "daemonize = run/app.log"], "777"),
        ([FILE, "umask = 000", "chmod-socket = 660"], "660"),
        ([FILE, "daemonize = run/app.log", "chmod-socket = 660"], "660"),
    ],
)
def test_others_may_connect_where_they_may_under_uwsgi(
    tmp_path: Path, lines: list[str], mode: str
) -> None:
    assert plan_of(tmp_path, *lines).values["socket_mode"] == mode


@pytest.mark.parametrize(
    "lines",
    [
        [FILE],
        [FILE, "umask = 022"],
        [FILE, "umask = 007"],
        [FILE, "umask = 022", "daemonize = run/app.log"],
        [FILE, "daemonize2 = run/app.log"],
        ["umask = 000"],
        ["daemonize = run/app.log"],
    ],
)
def test_else_the_default_counts(tmp_path: Path, lines: list[str]) -> None:
    assert "socket_mode" not in plan_of(tmp_path, *lines).values


@pytest.mark.parametrize(
    ("text", "umask"), [("022", "022"), ("0022", "022"), ("00022", "002"), ("22", "000")]
)
def test_a_umask_is_read_as_under_uwsgi(tmp_path: Path, text: str, umask: str) -> None:
    assert plan_of(tmp_path, f"umask = {text}").values["umask"] == umask


@pytest.mark.parametrize("text", ["089", "022 # files", "u=rwx"])
def test_what_is_no_umask_is_refused(tmp_path: Path, text: str) -> None:
    assert verdicts(plan_of(tmp_path, f"umask = {text}"), "umask") == [Verdict.REFUSED]


def test_a_umask_that_uwsgi_reads_as_0_is_warned_of(tmp_path: Path) -> None:
    assert Verdict.WARNED in verdicts(plan_of(tmp_path, "umask = 22"), "umask")


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["--chmod-socket"], ""),
        (["-C"], ""),
        (["--chmod-socket=1"], ""),
        (["--ini", "a.ini"], "[uwsgi]\nchmod-socket = 1\n"),
        (["--xml", "a.xml"], "<uwsgi><chmod-socket/></uwsgi>"),
        (["--json", "a.json"], '{"uwsgi": {"chmod-socket": true}}'),
    ],
)
def test_without_a_value_everybody_may_connect(
    tmp_path: Path, arguments: list[str], file: str
) -> None:
    if file:
        (tmp_path / arguments[-1]).write_text(file)
    reading = read_configuration(["-s", "run/app.sock", "-w", "app", *arguments], {}, str(tmp_path))
    plan = make_plan(reading.settings, start=str(tmp_path), is_root=False)
    assert plan.values["socket_mode"] == "666"


@pytest.mark.parametrize("line", ["chmod-socket", "chmod-socket =", "chmod-socket = true"])
def test_what_is_no_mode_is_refused(tmp_path: Path, line: str) -> None:
    assert verdicts(plan_of(tmp_path, line), "chmod-socket") == [Verdict.REFUSED]
