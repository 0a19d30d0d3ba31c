"""--explain of a configuration of another server says whether it can be started."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.bridge_process import running_process
from tests.forked_command import run_command
from uwsgibridge.control.client import ask

HEAD = "[uwsgi]\nmodule = app\nsocket = 127.0.0.1:3031\n"


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("processes = 5000", "--workers 5000 must be at most 1000"),
        ("reload-on-rss = 9999999999", "--max-rss-bytes"),
        ("socket = 127.0.0.1:99999", "--bind"),
    ],
)
def test_a_value_that_is_not_taken_is_said_with_its_line(
    line: str, option: str, tmp_path: Path
) -> None:
    (tmp_path / "a.ini").write_text(f"{HEAD}{line}\n")
    status, text = run_command("run-uwsgi", "a.ini", "--explain", directory=tmp_path)
    assert status == 2
    *_, refused, remedy = text.splitlines()
    assert refused.startswith(f"  a.ini:4: {line}: {option}")
    assert remedy == f"To start without: --ignore {line.partition(' ')[0]}"


def test_directories_of_another_machine_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text(f"{HEAD}chdir = /nonexistent\nvirtualenv = /nonexistent\n")
    status, _ = run_command("run-uwsgi", "a.ini", "--explain", directory=tmp_path)
    assert status == 0


def test_refusals_are_named_by_their_own_names(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text(f"{HEAD}rem-header = X-A\ncache2 = name=a\n")
    status, text = run_command("run-uwsgi", "a.ini", directory=tmp_path)
    assert status == 2
    assert text.splitlines()[-1] == "To start without: --ignore rem-header --ignore cache2"


def test_convert_says_what_it_leaves_out_and_takes_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text(f"{HEAD}rem-header = X-A\ncache2 = name=a\n")
    status, text = run_command("convert", "a.ini", directory=tmp_path)
    assert status == 2
    *_, last = text.splitlines()
    assert "workers = 1  # by default: no processes line" in text
    assert "2 lines have nothing like them here, and are left out:" in text
    assert "nothing was started" not in text
    assert last == "When that is settled: --ignore rem-header --ignore cache2"
    status, text = run_command(
        *("convert", "a.ini", "--ignore", "rem-header", "--ignore", "cache2"), directory=tmp_path
    )
    assert status == 0
    assert "left out:" not in text


@pytest.mark.parametrize(
    ("lines", "remedy"),
    [
        ("http-socket = :80\n", "Write socket = 127.0.0.1:3031 in its place."),
        (
            "socket = 127.0.0.1:3031\nhttp-socket = :80\n",
            "There is a socket line as well: --ignore http-socket goes on with that alone.",
        ),
    ],
)
def test_what_to_do_about_http_is_said_as_the_file_has_it(
    lines: str, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / "a.ini").write_text(f"[uwsgi]\nmodule = app\n{lines}")
    _, text = run_command("run-uwsgi", "a.ini", directory=tmp_path)
    assert "http-socket = :80: Nothing here speaks HTTP but Nginx" in text
    assert remedy in text


def test_where_each_option_came_from_is_known_of_a_running_service(tmp_path: Path) -> None:
    """Also of those that the other server has no name for, which stand in the environment or in our file."""
    (tmp_path / "a.ini").write_text(
        "[uwsgi]\nmodule = site_app:app\nsocket = 127.0.0.1:0\nprocesses = 2\nenv = A=1\nenv = B=2\n"
    )
    (tmp_path / "site_app.py").write_text("def app(environ, start_response): ...\n")
    (tmp_path / "uwsgibridge.toml").write_text("max_vars = 90\n")
    with tempfile.TemporaryDirectory() as place:
        control = Path(place, "c")
        with running_process(
            *("run-uwsgi", "a.ini"),
            directory=tmp_path,
            environment={
                "UWSGIBRIDGE_LOG_FORMAT": "json",
                "UWSGIBRIDGE_CONTROL_SOCKET": str(control),
            },
        ) as bridge:
            bridge.wait_listening(1)
            options = {it["option"]: it["origin"] for it in ask(control, "config")["options"]}
            assert bridge.stop() == 0
    assert options["--workers"] == "a.ini:4"
    assert options["--env"] == "a.ini:5, a.ini:6"
    assert options["--preload"] == "by default"
    assert options["--uwsgi-module"] == "by default"
    assert options["--log-format"] == "environment (UWSGIBRIDGE_LOG_FORMAT)"
    assert options["--max-vars"] == f"file ({tmp_path}/uwsgibridge.toml)"
    assert options["--backlog"] == "default"
