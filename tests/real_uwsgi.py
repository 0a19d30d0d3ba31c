"""Finds the real uWSGI: ``uwsgi`` on PATH, or what UWSGIBRIDGE_REAL_UWSGI names.

It has to be built from its source. The wheel pyuwsgi is another build, which runs within a started Python.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def find_real_uwsgi() -> str | None:
    """Give its path; None where there is none."""
    named = os.environ.get("UWSGIBRIDGE_REAL_UWSGI")
    if named:
        return named
    found = shutil.which("uwsgi")
    # The wheel installs a script of Python in its place.
    return found if found and Path(found).read_bytes()[:2] != b"#!" else None


def require_real_uwsgi() -> str:
    """Give its path; skip the test where there is none."""
    found = find_real_uwsgi()
    if found is None:
        pytest.skip("no uwsgi that was built from its source")
    return found
