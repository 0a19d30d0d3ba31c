"""What a person reads of a configuration of uWSGI, without a start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.migration.uwsgi.planning import plan_of
from uwsgibridge.cli.run_uwsgi import read_plan
from uwsgibridge.migration.nginx_block import nginx_lines
from uwsgibridge.migration.plan import Plan
from uwsgibridge.migration.report import command_lines, describe_warnings, explain

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


@pytest.mark.parametrize(
    ("arguments", "environ", "is_warned", "workers"),
    [
        (["a.ini", "-p", "8"], {}, True, 1),
        (["-p", "8", "--ini", "a.ini"], {}, True, 1),
        (["--ini", "a.ini", "-p", "8"], {}, False, 8),
        (["--ini", "a.ini"], {"UWSGI_WORKERS": "8"}, True, 1),
        (["--ini", "a.ini"], {"UWSGI_WORKERS": "1"}, False, 1),
    ],
)
def test_a_file_that_wins_over_the_command_line_is_warned_of(
    plan: MakePlan,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environ: dict[str, str],
    is_warned: bool,
    workers: int,
) -> None:
    plan("socket = a.sock", "processes = 1")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = read_plan(arguments)
    assert made.values["workers"] == workers
    assert ("so that a.ini:3 wins" in " ".join(describe_warnings(made))) is is_warned


def test_a_directory_that_is_not_there_is_left_out(plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "libs/b").mkdir(parents=True)
    (tmp_path / "libs/a").mkdir()
    made = plan("socket = a.sock", "pythonpath = nothing", "pythonpath = libs/*")
    assert made.values["python_path"] == tuple(str(tmp_path / "libs" / it) for it in ("b", "a"))
    [warning] = describe_warnings(made)
    assert "a.ini:3: pythonpath = nothing: There is no" in warning


def test_a_slash_at_the_end_of_a_prefix_is_warned_of(plan: MakePlan) -> None:
    made = plan("socket = a.sock", "mount = /a/=m:app", "manage-script-name = 1")
    assert made.values["mount"] == ("/a=m:app",)
    assert "the slash belongs to SCRIPT_NAME" in " ".join(describe_warnings(made))


def test_a_mount_that_script_name_alone_chooses_is_warned_of(plan: MakePlan) -> None:
    made = plan("socket = a.sock", "mount = /a=m:app", "mount = /b=n:app")
    assert made.app == "m:app"
    [_first, second] = describe_warnings(made)
    assert "where Nginx sends SCRIPT_NAME /b" in second
    assert "manage-script-name = true" in second
    made = plan("socket = a.sock", "mount = /a=m:app", "mount = /=n:app")
    assert "never this one" in describe_warnings(made)[-1]


def test_hooks_before_chdir_have_the_start_directory(plan: MakePlan, tmp_path: Path) -> None:
    made = plan(
        "socket = a.sock",
        "chdir = inner",
        "exec-asap = touch a; true",
        "hook-as-user = touch:b",
        "exec-pre-app = touch c",
        "hook-pre-app = touch:d",
    )
    assert made.values["on_start"] == (
        f"exec:sh -c 'cd {tmp_path} && {{ touch a; true; }}'",
        "exec:touch c",
        f"touch:{tmp_path}/b",
        "touch:d",
    )


@pytest.mark.parametrize("uid", ["uid = www-data", ""])
def test_what_uwsgi_runs_as_root_is_warned_of_where_there_is_another_user(
    tmp_path: Path, uid: str
) -> None:
    lines = (
        *("exec-as-root = a", "hook-post-jail = touch:b", "exec-asap = c"),
        *("exec-as-user = d", "exec-pre-app = e", *filter(None, [uid])),
    )
    text = words(explain(plan_of(tmp_path, *lines, is_root=True)))
    assert text.count("!! It runs as the user of uid here, and as root under uWSGI") == 3 * bool(
        uid
    )


def test_a_variable_of_the_log_that_is_not_there_is_a_dash(plan: MakePlan) -> None:
    made = plan("socket = a.sock", "log-format = %(method) %(metric.a) %(var.HTTP_HOST) %(user_id)")
    # What uWSGI does not know, either, is for the application to set (uwsgi.set_logvar).
    expected = "%(method) - %(var.HTTP_HOST) %(logvar.user_id)"
    assert made.values["access_log_format"] == expected
    [warning] = describe_warnings(made)
    assert "There is no %(metric.a) here" in warning


def test_a_format_without_variables_is_left_out(plan: MakePlan) -> None:
    made = plan("socket = a.sock", "log-format = %(metric.a)")
    assert "access_log_format" not in made.values
    assert "the usual lines are written" in " ".join(describe_warnings(made))


def test_green_threads_are_threads(plan: MakePlan) -> None:
    made = plan("socket = a.sock", "gevent = 50", "gevent-early-monkey-patch = true")
    assert made.values["threads"] == 50


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_the_directory_of_prometheus_client_has_an_option(plan: MakePlan, name: str) -> None:
    made = plan("socket = :3031", "module = m", f"env = {name}=/run/figures", "env = OTHER=/run")
    assert made.values["env"] == (f"{name}=/run/figures", "OTHER=/run")
    text = words(explain(made))
    assert text.count("instead of it, better: --prometheus-multiproc-dir /run/figures, which") == 1
    assert describe_warnings(made) == describe_warnings(plan("socket = :3031", "module = m"))
