"""What is said of a file of --log-config that does not configure logging, in one sentence with its place."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from uwsgibridge.errors import SettingsError
from uwsgibridge.telemetry.logging_config import configure_logging

INI = """
[loggers]
keys = root
[handlers]
keys = own
[formatters]
keys =
[logger_root]
level = INFO
handlers = own
[handler_own]
class = StreamHandler
args = (sys.stdout,)
"""
FORMS = {
    "log.toml": '[handlers.own]\nclass = "logging.StreamHandler"\nstream = "ext://sys.stdout"\n[root]\nlevel = "INFO"\nhandlers = ["own"]\n',
    "log.json": '{"handlers": {"own": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}, "root": {"level": "INFO", "handlers": ["own"]}}',
    "log.yaml": "version: 1\nhandlers:\n  own:\n    class: logging.StreamHandler\n    stream: ext://sys.stdout\nroot:\n  level: INFO\n  handlers: [own]\n",
    "logging.conf": INI,
}

CONFIGURE = """
import logging, sys
from uwsgibridge.telemetry.logging_config import configure_logging
existing = logging.getLogger("asyncio")
for file in sys.argv[1:]:
    logging.getLogger().handlers = []
    configure_logging(file)
    logging.getLogger("shop").info("told by %s", file)
    existing.info("goes on")
"""


def test_each_form_configures_and_silences_no_logger_that_exists(tmp_path: Path) -> None:
    for name, text in FORMS.items():
        (tmp_path / name).write_text(text)
    ran = subprocess.run(
        [sys.executable, "-c", CONFIGURE, *FORMS],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.stderr == ""
    lines = [line for name in FORMS for line in (f"told by {name}", "goes on")]
    assert ran.stdout.splitlines() == lines


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.toml", "[root\n", "line 1"),
        ("a.json", '{\n"root": }', "it is no JSON: Expecting value: line 2"),
        ("a.json", "[]", "it holds list in place of a dictionary"),
        ("a.json", '{"version": 2}', "Unsupported version: 2"),
        ("a.yaml", "root: [", "line 1"),
        ("a.yaml", "root", "it holds str in place of a dictionary"),
        ("a.ini", "[loggers]\nkeys = root\n", "there is no section [handlers], which logging.config.fileConfig asks for"),
        ("a.ini", INI.replace("[handler_own]", "[handler_other]"), "there is no section or key 'handler_own'"),
        ("a.ini", "level = INFO\n", "File contains no section headers"),
        ("a.json", '{"handlers": {"own": {"class": "no.such.Handler"}}}', "Unable to configure handler 'own': Cannot resolve 'no.such.Handler': No module named 'no'"),
        ("a.json", '{"handlers": {"own": {"class": "logging.FileHandler", "filename": "/nowhere/x"}}}', "handler 'own': No such file or directory: /nowhere/x"),
        ("a.json", '{"root": {"handlers": ["own"]}}', "Unable to configure root logger: Unable to add handler 'own'"),
        ("missing.json", None, "No such file or directory"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | None, reason: str
) -> None:
    # What fails may have changed something before.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging, "_handlerList", [])
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError) as caught:
        configure_logging(str(tmp_path / name))
    said = str(caught.value)
    assert said.startswith(f"--log-config {tmp_path / name}: ")
    assert reason in said
    assert "\n" not in said


def test_yaml_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yml").write_text("version: 1\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(
        SettingsError, match=r"YAML needs the package PyYAML: pip install 'uwsgibridge\[yaml\]'"
    ):
        configure_logging(str(tmp_path / "a.yml"))
