"""``uwsgibridge nginx --check`` as a person and as CI call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.control_server import FakeSupervisor, control_directory, running_control
from uwsgibridge.cli.nginx import command

CLEAN = "server { location / { include uwsgi_params; uwsgi_pass unix:/run/a.sock; } }\n"
WARNED = CLEAN.replace("/run/", "/tmp/")
FAULTY = "server {\n location / {\n  uwsgi_pass unix:/run/a.sock; } }\n"


def run(*arguments: object, said: str | None = None) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments], input=said)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "site.conf"


@pytest.mark.parametrize(
    ("text", "options", "status"),
    [
        (CLEAN, (), 0),
        (CLEAN, ("--strict",), 0),
        (WARNED, (), 0),
        (WARNED, ("--strict",), 1),
        (FAULTY, (), 1),
        ("server {", (), 1),
    ],
)
def test_the_exit_status_says_what_was_found(
    file: Path, text: str, options: tuple[str, ...], status: int
) -> None:
    file.write_text(text)
    assert run("--check", file, *options).exit_code == status


def test_text_has_the_place_the_reason_and_the_line_to_write(file: Path) -> None:
    file.write_text(FAULTY)
    first, second, last = run("--check", file).stdout.splitlines()
    assert first == (
        f"{file}:3: error: no uwsgi_param is in force here, so that the application learns neither method "
        "nor path [params-none]"
    )
    assert second == "    include uwsgi_params;"
    assert last == "1 way leads to an application: 1 error, 0 warnings, 0 notices"


def test_json_has_all_of_several_files(file: Path, tmp_path: Path) -> None:
    file.write_text(FAULTY)
    other = tmp_path / "other.conf"
    other.write_text(WARNED)
    document = json.loads(run("--check", file, other, "--format", "json").stdout)
    assert document["version"] == 1
    assert document["counts"] == {"error": 1, "warning": 1, "notice": 0}
    first, second = document["files"]
    assert (first["file"], first["ways"], first["read"]) == (str(file), 1, [str(file)])
    (finding,) = first["findings"]
    assert finding == {
        "rule": "params-none",
        "severity": "error",
        "file": str(file),
        "line": 3,
        "reason": finding["reason"],
        "write": "include uwsgi_params;",
    }
    assert [it["rule"] for it in second["findings"]] == ["socket-in-tmp"]


def test_sarif_is_what_code_hosts_read(file: Path) -> None:
    file.write_text(FAULTY)
    document = json.loads(run("--check", file, "--format", "sarif").stdout)
    assert document["version"] == "2.1.0"
    (log,) = document["runs"]
    (result,) = log["results"]
    rules = log["tool"]["driver"]["rules"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "params-none"
    assert result["level"] == "error"
    (place,) = result["locations"]
    assert place["physicalLocation"]["region"] == {"startLine": 3}
    assert place["physicalLocation"]["artifactLocation"]["uri"] == str(file)
    levels = {rule["defaultConfiguration"]["level"] for rule in rules}
    assert levels == {"error", "warning", "note"}


def test_sarif_has_paths_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/app.inc").write_text("uwsgi_pass unix:/tmp/a.sock;")
    main = tmp_path / "deploy/site.conf"
    main.write_text("server { location / { include uwsgi_params; include app.inc; } }")
    monkeypatch.chdir(tmp_path)
    document = json.loads(run("--check", "deploy/site.conf", "--format", "sarif").stdout)
    (result,) = document["runs"][0]["results"]
    (place,) = result["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "deploy/app.inc"


def test_the_standard_input_is_a_file() -> None:
    result = run("--check", "-", said=FAULTY)
    assert result.exit_code == 1
    assert result.stdout.startswith("(standard input):3: error: ")


def test_what_it_prints_itself_passes() -> None:
    assert run("--check", "-", "--strict", said=run().stdout).exit_code == 0


def test_the_environment_says_options_of_the_bridge(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(CLEAN)
    monkeypatch.setenv("UWSGIBRIDGE_REQUEST_TIMEOUT_SECONDS", "90")
    assert "[read-timeout-short]" in run("--check", file).stdout


def test_a_file_of_options_in_this_directory_counts(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(CLEAN)
    # No such directory is here; the bridge may be on another machine.
    (tmp_path / "uwsgibridge.toml").write_text(
        'app = "a:b"\noffload = ["/files=/no/such/directory"]\nchdir = "/no/such"\n'
    )
    monkeypatch.chdir(tmp_path)
    result = run("--check", file)
    assert "[offload-location]" in result.stdout
    assert "location /files/ { internal; alias /no/such/directory/; }" in result.stdout


def test_a_running_supervisor_says_its_options(file: Path) -> None:
    file.write_text(CLEAN)
    with control_directory() as directory:
        with running_control(directory / "c", FakeSupervisor()):
            result = run("--check", file, "--control-socket", directory / "c")
        assert "the bridge listens at unix:/a, and no uwsgi_pass leads there" in result.stdout
        result = run("--check", file, "--control-socket", directory / "c")
        assert result.exit_code == 2
        assert f"--control-socket {directory / 'c'}: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--check",), "--check takes files"),
        (("site.conf",), "site.conf: a file goes with --check"),
        (("--strict",), "--strict goes with --check"),
        (("--format", "json"), "--format goes with --check"),
        (("--config", "a.toml"), "--config goes with --check"),
        (("--check", "{file}", "--tls"), "leave --tls out"),
        (("--check", "{file}", "--upstream", "a:1"), "leave --upstream out"),
        (("--control-socket", "c"), "--control-socket goes with --check"),
        (
            ("--check", "{file}", "--config", "a", "--control-socket", "c"),
            "--config or --control-socket",
        ),
        (("--check", "no-such.conf"), "--check no-such.conf: No such file or directory"),
        (("--check", "/"), "--check /: Is a directory"),
        (("--check", "{file}", "--nginx-version", "new"), "'new' is not a version"),
        (("--check", "{file}", "--config", "no.toml"), "--config no.toml: No such file"),
        (("--check", "{file}", "--format", "xml"), "'xml' is not one of"),
    ],
)
def test_wrong_usage_is_said(file: Path, arguments: tuple[str, ...], said: str) -> None:
    file.write_text(CLEAN)
    result = run(*(one.format(file=file) for one in arguments))
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_wrong_option_of_the_bridge_is_said(file: Path, tmp_path: Path) -> None:
    file.write_text(CLEAN)
    config = tmp_path / "a.toml"
    config.write_text('bind = ["nowhere"]')
    result = run("--check", file, "--config", config)
    assert result.exit_code == 2
    assert "--bind" in result.stderr


def test_a_file_that_is_not_utf_8_is_read(file: Path) -> None:
    file.write_bytes(b"# caf\xe9\n" + CLEAN.encode())
    assert run("--check", file).exit_code == 0


def test_nothing_of_it_is_imported_without_it() -> None:
    code = (
        "import sys, uwsgibridge.cli.nginx, uwsgibridge.frontend.config\n"
        "print([it for it in sys.modules if 'frontend.check' in it or 'nginx_check' in it])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
