"""The real uWSGI makes of the recorded configurations what is recorded, and what our reader gives.

It is what UWSGIBRIDGE_REAL_UWSGI names, a ``uwsgi`` on PATH that was built from its source, or else the wheel pyuwsgi. Where
builds differ, the two readings are recorded, and each build has to have one of them.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.uwsgi_configurations import (
    CONFIGURATIONS,
    FLAT_YAML,
    START,
    XML_OF_TWO_READINGS,
    YAML_OF_ONE_READING,
    YAML_OF_TWO_READINGS,
    Configuration,
    TwoReadings,
)
from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.uwsgi.reading import read_configuration

PATIENCE_SECONDS: Final = 60.0
_SHOWN: Final = re.compile(
    rb";uWSGI instance configuration\n\[uwsgi\]\n(.*?);end of configuration\n", re.DOTALL
)
# How the test has the configuration printed, without serving anything.
_OWN: Final = {"UWSGI_SHOW_CONFIG": "true", "UWSGI_NO_SERVER": "true"}


def _real_uwsgi() -> str | None:
    named = os.environ.get("UWSGIBRIDGE_REAL_UWSGI")
    if named:
        return named
    found = shutil.which("uwsgi")
    # What the wheel installs is a script of Python.
    if found and Path(found).read_bytes()[:2] != b"#!":
        return found
    wheel = Path(sys.executable).with_name("pyuwsgi")
    return str(wheel) if wheel.exists() else None


@pytest.fixture(scope="module")
def real_uwsgi() -> str:
    found = _real_uwsgi()
    if found is None:
        pytest.skip("no uwsgi is installed")
    return found


def show(
    program: str,
    directory: Path,
    arguments: Sequence[str],
    environ: Mapping[str, str] | None = None,
) -> list[tuple[str, str]] | None:
    """Have a configuration read and printed.

    Returns:
        Names and values in their order; None where uWSGI has not started.
    """
    finished = subprocess.run(
        [program, *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], **_OWN, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if b"unrecognized option '--json'" in finished.stdout:
        pytest.skip("this uwsgi was built without JSON")
    shown = _SHOWN.search(finished.stdout)
    if shown is None:
        assert finished.returncode != 0, finished.stdout.decode("utf-8", "replace")
        return None
    lines = shown[1].decode("utf-8", "surrogateescape").split("\n")[:-1]
    pairs = [(name, value) for name, _, value in (it.partition(" = ") for it in lines)]
    return [it for it in pairs if it[0] not in {"show-config", "no-server"}]


@pytest.mark.parametrize("case", CONFIGURATIONS, ids=lambda it: it.name)
def test_the_record_is_true(case: Configuration, real_uwsgi: str, tmp_path: Path) -> None:
    if case.is_only_ours:
        pytest.skip("uWSGI does not refuse it, or its list has another form")
    for name, content in case.files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = show(real_uwsgi, tmp_path, case.arguments, case.environ)
    if case.refusal:
        assert found is None
        return
    if found is None and case in FLAT_YAML:
        pytest.skip("this uwsgi was built with libyaml")
    assert found == [(name, value.replace(START, str(tmp_path))) for name, value in case.expected]


@pytest.mark.parametrize(
    ("option", "cases"),
    [
        ("--yaml", (*YAML_OF_TWO_READINGS, *YAML_OF_ONE_READING)),
        ("--xml", XML_OF_TWO_READINGS),
    ],
)
def test_uwsgi_has_one_of_two_readings_of_all_of_them(
    option: str, cases: Sequence[TwoReadings], real_uwsgi: str, tmp_path: Path
) -> None:
    found = []
    for case in cases:
        (tmp_path / "a.yaml").write_bytes(case.text.encode())
        shown = show(real_uwsgi, tmp_path, [option, "a.yaml"])
        found.append(None if shown is None else tuple(shown[1:]))
    assert found in ([it.first for it in cases], [it.second for it in cases])


# Pieces of lines from which chance makes what nobody has thought of.
_NAMES: Final = ("a", "b", "c", "x-1", "master", "module", "a b")
_PIECES: Final = (
    "%", "%%", "%(a)", "%(b)", "%(a b)", "%(a + 1)", "%(b * a - 2)", "%(a ++)", "%(b / a)", "%( a)", "%()", "%(_)",
    "%(%(a))", "%d", "%n", "%N", "%q", "%x", "%3", "%\n", "$(A)", "$(Z)", "$(A", "$$(A)", "$($(A))", "$(B$(A))", "@(t.txt)",
    "@(", "(", ")", "a", "b", " ", "\t", "=", "#", ";", "1", "2", "[", "]", "\r", "é",
)  # fmt: skip
_LINES: Final = (
    "#", ";", "[x]\n", "[uwsgi]\n", "if-env = A\n", "if-env = Z\n", "if-env = A=1\n", "if-not-env = Z=1\n", "if-opt = a\n",
    "if-opt = a=1\n", "if-not-opt = b\n", "if-file = t.txt\n", "if-dir = .\n", "for = 1 2\n", "for-times = 2\n",
    "for-glob = *.txt\n", "for-readline = t.txt\n", "if-reload\n", "if-not-reload = 1\n", "endif\n", "endfor =\n", "end\n",
    "include = b.ini\n", "ini = b.ini\n", "ini = :x\n", "inherit = b.ini\n", "ini = b.ini:x\n", "set = a=", "set = c=",
    "strict = false\n", "umask = %(a)\n",
)  # fmt: skip


def _make_text(chance: random.Random, most: int) -> str:
    lines = []
    for _ in range(chance.randrange(most)):
        value = "".join(chance.choice(_PIECES) for _ in range(chance.randrange(5)))
        line = chance.choice(_LINES) if chance.random() < 0.4 else f"{chance.choice(_NAMES)} ="
        lines.append(line if line.endswith("\n") else f"{line} {value}\n")
    return "".join(lines)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_chance_writes_is_read_alike(seed: int, real_uwsgi: str, tmp_path: Path) -> None:
    chance = random.Random(seed)
    (tmp_path / "a.ini").write_text(f"[uwsgi]\n{_make_text(chance, 10)}", newline="")
    (tmp_path / "b.ini").write_text(
        f"[uwsgi]\n{_make_text(chance, 4)}[x]\n{_make_text(chance, 4)}", newline=""
    )
    (tmp_path / "t.txt").write_text(
        chance.choice(["1", "1\n", "$(A)\n", "x%(a)\n", "a"]), newline=""
    )
    arguments = chance.choice([["--ini", "a.ini"], ["a.ini"], ["--ini", "a.ini", "--set", "b=3"]])
    environ = {"A": chance.choice(["1", "", "x$(A)", "%(a)"]), "B1": "y"}
    try:
        reading = read_configuration(arguments, environ, str(tmp_path))
    except ConfigurationError as error:
        # What uWSGI bears and we do not, and what it works on until the memory is full.
        if not re.search("there is no section|no UTF-8|gets too long", str(error)):
            assert show(real_uwsgi, tmp_path, arguments, environ) is None
        return
    real = show(real_uwsgi, tmp_path, arguments, environ)
    assert real is not None
    ours = "".join(f"{it.name} = {it.value or ''}\n" for it in reading.settings)
    assert ours == "".join(f"{name} = {value}\n" for name, value in real)
