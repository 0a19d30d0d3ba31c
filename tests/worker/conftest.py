"""Each test here runs with the accelerator or without, in turn."""

import sys

from tests.ways import either_way  # noqa: F401 - a fixture
from uwsgibridge.system.interpreter import runs_without_gil

collect_ignore = []
if runs_without_gil():
    # These packages are no part of its environment: some of what they need has no build for it.
    collect_ignore += ["test_otel.py", "test_otel_process.py", "test_request_ids.py"]
    if sys.version_info < (3, 14):
        collect_ignore += ["test_tls.py"]  # cffi refuses to be built
