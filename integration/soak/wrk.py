"""wrk, which makes the load."""

from __future__ import annotations

import shutil

import pytest


def wrk_or_skip() -> str:
    """Give its path; a test that needs it is left out where it is not installed."""
    wrk = shutil.which("wrk")
    if wrk is None:
        pytest.skip("wrk is not installed (Debian: wrk)")
    return wrk
