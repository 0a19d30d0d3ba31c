"""What `make fuzz-fast` feeds the accelerator with: some of it without sanitizers, so that it stays of use."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.fuzz.fast_under_sanitizers import ROOT
from uwsgibridge.fast import PURE_VARIABLE, accelerator


def test_it_feeds_what_there_is() -> None:
    if accelerator is None:
        pytest.skip("there is no accelerator to feed")
    module: Any = accelerator
    fed = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.fast_under_sanitizers"),
            *("--module", module.__file__, "--packets", "3000", "--seed", "1"),
        ],
        cwd=ROOT,
        env={**os.environ, PURE_VARIABLE: "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert fed.returncode == 0, fed.stderr
