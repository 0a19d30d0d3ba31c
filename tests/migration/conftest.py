"""Keeps tests apart that execute configuration files in the test's own process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def _own_surroundings() -> Iterator[None]:
    """Put back the environment and the import path, which a configuration file may change."""
    path = list(sys.path)
    with mock.patch.dict(os.environ):
        yield
    sys.path[:] = path
