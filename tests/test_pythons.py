"""The Pythons that are promised are those that `make test-pythons` runs."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLASSIFIER = "Programming Language :: Python :: "


def test_tox_runs_each_python_that_is_promised() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    promised = [
        it.removeprefix(CLASSIFIER)
        for it in told["project"]["classifiers"]
        if it.startswith(CLASSIFIER)
    ]
    assert promised[0] == "3.11"
    assert told["tool"]["tox"]["env_list"] == promised
    assert told["project"]["requires-python"] == f">={promised[0]}"
    assert told["tool"]["ruff"]["target-version"] == "py" + promised[0].replace(".", "")
