"""What a person reads of a configuration of uWSGI, without a start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from uwsgibridge.cli.run_uwsgi import read_plan
from uwsgibridge.migration.nginx_block import nginx_lines
from uwsgibridge.migration.plan import Plan
from uwsgibridge.migration.report import command_lines, explain

MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlan:
    monkeypatch.chdir(tmp_path)

    def make(*lines: str, ignored: tuple[str, ...] = ()) -> Plan:
        (tmp_path / "a.ini").write_text("\n".join(("[uwsgi]", *lines, "")))
        return read_plan(["--ini", "a.ini"], ignored=ignored)

    return make


def words(text: str) -> str:
    return " ".join(text.split())


def test_what_no_line_says_is_explained_too(plan: MakePlan) -> None:
    text = words(explain(plan("socket = :3031", "module = m")))
    assert text.startswith("It runs as it is. What each line becomes")
    assert "by default no processes line -> --workers 1" in text
    assert "by default no threads line -> --threads 1" in text
    assert "by default no lazy-apps line -> --preload" in text
    assert "by default no disable-logging line -> --access-log" in text


def test_lines_that_are_there_have_no_default(plan: MakePlan) -> None:
    text = explain(
        plan("socket = :3031", "processes = 2", "threads = 3", "lazy-apps", "disable-logging")
    )
    assert "by default" not in text


def test_differences_and_refusals_are_counted_first(plan: MakePlan) -> None:
    lines = ("socket = :3031", "processes = 2 # two", "http = :80", "cron = 1 1 1 1 1 true")
    assert explain(plan(*lines)).startswith(
        "It does not start: 2 lines are refused. 1 line has a warning.\n"
    )


def test_with_cheaper_the_processes_are_the_most(plan: MakePlan) -> None:
    made = plan("socket = :3031", "processes = 8", "cheaper = 2", "cheaper-initial = 3")
    text = words(explain(made))
    assert "processes = 8 -> --workers-max 8, see cheaper" in text
    assert "cheaper = 2 -> --workers 3 --workers-min 2 --workers-max 8" in text
    assert made.values["workers"] == 3


def test_sizes_have_units(plan: MakePlan) -> None:
    made = plan("socket = :3031", "reload-on-rss = 256", "limit-post = 1000")
    command = " ".join(command_lines(made))
    assert "--max-rss-bytes 256M" in command
    assert "--max-body-bytes 1000 " in command


def test_nginx_gets_the_certificate(plan: MakePlan) -> None:
    made = plan("https = :8443,site.crt,site.key", "http = 0.0.0.0:8000", "socket = a.sock")
    lines = [it.strip() for it in nginx_lines(made)]
    assert sorted(lines[1:5]) == [
        "listen 8000;",
        "listen 8443 ssl;",
        "ssl_certificate site.crt;",
        "ssl_certificate_key site.key;",
    ]


def test_one_address_twice_is_one(plan: MakePlan) -> None:
    made = plan("socket = a.sock", "socket = ./a.sock", "socket = 127.0.0.1:0", "s = 127.0.0.1:0")
    assert len(made.values["bind"]) == 3


def test_what_uwsgi_runs_before_it_listens_is_warned_of(plan: MakePlan) -> None:
    text = words(
        explain(plan("socket = a.sock", "exec-asap = mkdir -p run", "hook-asap = touch:a"))
    )
    assert text.count("!! It runs when the sockets are open here") == 2


@pytest.mark.parametrize(
    ("lines", "is_started"),
    [
        (("mount = /a=m:app", "manage-script-name = 1"), True),
        (("mount = /a=m:app",), False),
        (("mount = /a=m:app", "manage-script-name = 1", "module = m"), False),
    ],
)
def test_no_default_app(plan: MakePlan, lines: tuple[str, ...], is_started: bool) -> None:
    made = plan("socket = a.sock", "no-default-app = 1", *lines)
    assert explain(made).startswith("It runs") is is_started
    if is_started:
        assert made.app is None


@pytest.mark.parametrize("file", ["app", "app.txt", "dir/app"])
def test_a_file_that_has_no_ending_of_python_is_refused(plan: MakePlan, file: str) -> None:
    assert "has to end in .py" in explain(plan("socket = a.sock", f"wsgi-file = {file}"))
