"""Options that are too long for the message that a template gets are said in one sentence."""

from __future__ import annotations

from pathlib import Path

from tests.bridge_process import run_to_its_end, running_process

OPTIONS = ("--workers", "1", "--bind", "127.0.0.1:0")
APPLICATION = "def application(environ, start_response): pass\n"


def test_the_longest_option_is_named(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    files = [f'"/{number:090}=app.py"' for number in range(700)]
    (tmp_path / "uwsgibridge.toml").write_text(f"static = [{', '.join(files)}]\n")
    status, text = run_to_its_end(
        "serve", "app", "--config", "uwsgibridge.toml", *OPTIONS, directory=tmp_path
    )
    assert status == 1
    assert "65536 are taken; the longest is --static" in text
    assert "Traceback" not in text


def test_a_long_name_of_the_application_is_too(tmp_path: Path) -> None:
    name = "a" * 100_000
    status, text = run_to_its_end("serve", name, *OPTIONS, directory=tmp_path)
    assert status == 1
    assert "the longest is APP" in text
    assert "Traceback" not in text


def test_a_long_command_line_has_room_beside_its_options(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    title = "a" * 32_400
    with running_process("serve", "app", *OPTIONS, "--title", title, directory=tmp_path) as process:
        assert process.address
