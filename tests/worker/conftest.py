"""Each test here runs with the accelerator or without, in turn."""

import sys

from tests.ways import either_way  # noqa: F401 - a fixture
from uwsgibridge.system.interpreter import runs_without_gil

# What makes certificates for tests can't be installed there: cffi refuses to be built for it.
collect_ignore = ["test_tls.py"] if runs_without_gil() and sys.version_info < (3, 14) else []
