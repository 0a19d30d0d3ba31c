"""Each script of findings/ has the form that CONTRIBUTING.md asks for, and `make findings` runs them all."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "findings").iterdir())

SETTINGS = "set -euo pipefail\n"
DEADLINE_SECONDS = 60.0

# Without what `make test` tells the `make` that it starts.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}
}


def head_comment(script: Path) -> str:
    """Give the lines between the first one and the shell's settings; each has to be a comment."""
    first, _, rest = script.read_text("utf-8").partition("\n")
    assert first == "#!/usr/bin/env bash"
    comment, settings, _ = rest.partition(SETTINGS)
    assert settings, f"{SETTINGS.strip()!r} is missing"
    lines = comment.splitlines()
    assert lines
    assert all(line == "#" or line.startswith("# ") for line in lines)
    return comment


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda it: it.name)
class TestForm:
    def test_it_is_an_executable_script_of_bash(self, script: Path) -> None:
        assert script.suffix == ".sh"
        assert os.access(script, os.X_OK)
        assert head_comment(script)

    def test_its_head_says_the_version_and_the_output_that_was_seen(self, script: Path) -> None:
        comment = head_comment(script)
        assert re.search(r"\b[0-9]+\.[0-9]+", comment)
        seen = re.search(r"^# Output seen.*:\n((?:#   .+\n)+)", comment, re.MULTILINE)
        assert seen, (
            "a line 'Output seen:', and below it the lines, each indented by two more blanks"
        )

    def test_it_works_in_a_directory_of_its_own_that_is_removed(self, script: Path) -> None:
        text = script.read_text("utf-8")
        made = re.search(r"^(\w+)=\$\(mktemp -d\)$", text, re.MULTILINE)
        assert made
        removed = re.search(r"^trap '(.*)' EXIT$", text, re.MULTILINE)
        assert removed
        assert f'rm -rf "${made[1]}"' in removed[1]

    def test_what_it_installs_is_pinned(self, script: Path) -> None:
        text = script.read_text("utf-8").replace("\\\n", "")
        for line in re.findall(r"^.*\bpip\b.*\binstall\b.*$", text, re.MULTILINE):
            packages = re.findall(r"'([^']+)'", line)
            assert packages
            assert all("==" in it for it in packages)

    def test_it_names_no_address_of_the_network_and_not_the_bridge(self, script: Path) -> None:
        text = script.read_text("utf-8").lower()
        assert "https://" not in text
        assert "uwsgibridge" not in text


def run_make(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--silent", "findings", f"FINDINGS={directory}"],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def put(script: Path, line: str) -> None:
    script.write_text(f"#!/usr/bin/env bash\n{line}\n", "utf-8")
    script.chmod(0o755)


def test_make_runs_each_script_and_fails_where_one_has_changed(tmp_path: Path) -> None:
    put(tmp_path / "a.sh", "echo told to nobody")
    put(tmp_path / "b.sh", "echo this is new; exit 3")
    put(tmp_path / "c.sh", "true")
    done = run_make(tmp_path)
    assert done.stdout.splitlines() == [
        f"pass  {tmp_path}/a.sh",
        f"FAIL  {tmp_path}/b.sh (exit status 3)",
        f"pass  {tmp_path}/c.sh",
    ]
    assert "this is new" in done.stderr
    assert done.returncode != 0


def test_make_succeeds_where_nothing_has_changed(tmp_path: Path) -> None:
    put(tmp_path / "a.sh", "true")
    assert run_make(tmp_path).returncode == 0
