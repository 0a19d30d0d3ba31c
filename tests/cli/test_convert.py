"""Which server ``convert`` takes a command line for."""

from __future__ import annotations

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
