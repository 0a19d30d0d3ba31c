"""Which server ``convert`` takes a command line for, and what it does not write."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from uwsgibridge.cli.convert import command


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf.py").write_text("threads = 7\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--wsgi-file", "app.py", "--stats", ":9191", "-s", ":3031"],
        ["--master", "--wsgi-file=app.py", "--socket", ":3031"],
        ["--file", "app.py", "-s", ":3031"],
        ["--module", "app", "--import", "tasks.py", "-s", ":3031"],
        ["--manage-script-name", "--mount", "/a=app.py", "-s", ":3031"],
    ],
)
def test_a_python_file_of_an_option_of_uwsgi_is_no_configuration(arguments: Sequence[str]) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert "by default: no processes line" in result.stdout  # a finding of uWSGI's


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "conf.py", "mysite.wsgi"],
        ["--config", "conf.py", "mysite.wsgi"],
        ["--config=conf.py", "mysite.wsgi"],
        ["mysite.wsgi", "-cconf.py"],
        ["--workers", "2", "-c", "./conf.py", "mysite.wsgi"],
    ],
)
def test_a_python_file_as_a_configuration_means_gunicorn(arguments: Sequence[str]) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert "threads = 7" in result.stdout


def test_a_value_out_of_bounds_is_left_out_with_its_bounds(tmp_path: Path) -> None:
    lines = (
        "socket = :3031",
        "module = app",
        "processes = 100000",
        "listen = 9999999",
        "threads = 2",
    )
    (tmp_path / "app.ini").write_text("\n".join(("[uwsgi]", *lines)))
    result = CliRunner().invoke(command, ["app.ini"])
    assert result.exit_code == 2
    written = tomllib.loads(result.stdout)
    assert written["threads"] == 2
    assert not {"workers", "backlog"} & set(written)
    for output in (" ".join(result.stdout.split()), result.stderr):
        assert (
            "app.ini:4: processes = 100000: --workers 100000 must be at most 1000; it takes 0 to 1000."
            in output
        )
        assert "it takes 1 to 1000000." in output
    assert "--ignore processes --ignore listen" in result.stderr


def test_of_several_addresses_the_wrong_one_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        "bind = ['127.0.0.1:8000', '127.0.0.1:99999']\nworkers = 2000\n"
    )
    result = CliRunner().invoke(command, ["-c", "conf.py", "mysite.wsgi"])
    assert result.exit_code == 2
    written = tomllib.loads(result.stdout)
    assert written["bind"] == ["127.0.0.1:8000"]
    assert "workers" not in written
    assert "a port is at most 65535" in result.stderr
    assert "conf.py:2: workers = 2000: --workers 2000 must be at most 1000" in result.stderr


PORTS = {
    "directly": "import os\nbind = f\"0.0.0.0:{os.environ['PORT']}\"",
    "by-get": "import os\nbind = '0.0.0.0:' + os.environ.get('PORT', '1')",
    "by-getenv": "from os import getenv\nbind = ['0.0.0.0:%s' % getenv('PORT')]",
    "by-another-name": "from os import environ as env\nport = env['PORT']\nbind = f'0.0.0.0:{port}'",
    "by-a-function": "import os\ndef port():\n    return os.environ['PORT']\nbind = f'0.0.0.0:{port()}'",
    "by-a-choice": "import os\nbind = '127.0.0.1:1'\nif 'PORT' and os.getenv('PORT'):\n    bind = '0.0.0.0:8123'",
    "by-expandvars": "import os.path\nbind = os.path.expandvars('0.0.0.0:${PORT}')",
}


@pytest.mark.parametrize("text", PORTS.values(), ids=PORTS)
def test_a_value_of_the_environment_is_named(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "8123")
    (tmp_path / "conf.py").write_text(f"{text}\nthreads = 3\n")
    result = CliRunner().invoke(command, ["-c", "conf.py", "mysite.wsgi"])
    assert result.exit_code == 0, result.output
    assert tomllib.loads(result.stdout)["bind"] == ["0.0.0.0:8123"]
    said = " ".join(result.stdout.replace("#", "").split())
    assert "It depends on the variable PORT of the environment" in said
    assert "set UWSGIBRIDGE_BIND" in said
    assert said.count("It depends on") == 1


def test_a_placeholder_of_uwsgi_for_a_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "8123")
    lines = "place = 127.0.0.1:$(PORT)", "socket = %(place)", "module = app", "threads = 3"
    (tmp_path / "app.ini").write_text("\n".join(("[uwsgi]", *lines)))
    result = CliRunner().invoke(command, ["app.ini"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.replace("#", "").split())
    assert "app.ini:3: socket = 127.0.0.1:8123: It depends on the variable PORT" in said
    assert said.count("It depends on") == 1


def test_all_lines_of_a_list_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE", "a.sock")
    lines = "socket = $(SITE)", "socket = b.sock", "env = A=1", "env = B=2", "module = app"
    (tmp_path / "app.ini").write_text("\n".join(("[uwsgi]", *lines)))
    result = CliRunner().invoke(command, ["app.ini"])
    assert result.exit_code == 0, result.output
    written = result.stdout.splitlines()
    (comment,) = [it.partition("#")[2] for it in written if it.startswith("env = ")]
    assert comment == " app.ini:4: env = A=1; app.ini:5: env = B=2"
    said = " ".join(result.stdout.replace("#", "").split())
    assert "app.ini:2: socket = a.sock: It depends on the variable SITE" in said


@pytest.mark.parametrize("written", ["$PORT", "${PORT}"])
def test_a_variable_that_nobody_replaces_is_named(written: str, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(f"bind = '0.0.0.0:{written}'\n")
    result = CliRunner().invoke(command, ["-c", "conf.py", "mysite.wsgi"])
    assert result.exit_code == 2
    assert "bind" not in tomllib.loads(result.stdout)
    assert f"{written} stays as it is" in result.stderr
    assert "{os.environ['PORT']} in an f-string" in result.stderr
