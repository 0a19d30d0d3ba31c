"""Finds a real uWSGI to hold the server against; tests of that are skipped where there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def find_real_uwsgi() -> str:
    """Give the path of a uWSGI that was built from its source; else skip the test."""
    named = os.environ.get("UWSGIBRIDGE_REAL_UWSGI")
    if named:
        return named
    found = shutil.which("uwsgi")
    # The wheel installs a script of Python in its place.
    if not found or Path(found).read_bytes()[:2] == b"#!":
        pytest.skip("no uwsgi that was built from its source")
    return found
