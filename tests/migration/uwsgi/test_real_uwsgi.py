"""The real uWSGI makes of the recorded configurations what is recorded, and what our reader gives.

A uWSGI that was built from its source is the reference: ``uwsgi`` on PATH, or what UWSGIBRIDGE_REAL_UWSGI names. The wheel
pyuwsgi is another build, which runs within a started Python, and is not taken.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.real_uwsgi import find_real_uwsgi
from tests.uwsgi_configurations import CONFIGURATIONS, START, Configuration

PATIENCE_SECONDS: Final = 60.0
_SHOWN: Final = re.compile(
    rb";uWSGI instance configuration\n\[uwsgi\]\n(.*?);end of configuration\n", re.DOTALL
)
# How the test has the configuration printed, without serving anything.
_OWN: Final = {"UWSGI_SHOW_CONFIG": "true", "UWSGI_NO_SERVER": "true"}


@pytest.fixture(scope="module")
def real_uwsgi() -> str:
    return find_real_uwsgi()


@pytest.mark.parametrize("case", CONFIGURATIONS, ids=lambda it: it.name)
def test_the_record_is_true(case: Configuration, real_uwsgi: str, tmp_path: Path) -> None:
    if case.is_only_ours:
        pytest.skip("uWSGI does not refuse it, or its list has another form")
    for name, content in case.files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    finished = subprocess.run(
        [real_uwsgi, *case.arguments],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **_OWN, **case.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    shown = _SHOWN.search(finished.stdout)
    if case.refusal:
        assert shown is None
        assert finished.returncode != 0
        return
    assert shown is not None, finished.stdout.decode("utf-8", "replace")
    lines = [it.partition(" = ")[::2] for it in shown[1].decode().split("\n")[:-1]]
    found = [it for it in lines if it[0] not in {"show-config", "no-server"}]
    assert found == [(name, value.replace(START, str(tmp_path))) for name, value in case.expected]
