"""The stack of signal handlers is there for as long as signals come."""

from __future__ import annotations

import subprocess
import sys

import pytest

# As Python's end does it: what modules have made goes, and signals may come after that.
LATE = """
import faulthandler, gc, os, signal, sys
from uwsgibridge.system import signal_stack

faulthandler.enable()
faulthandler.register(signal.SIGUSR1, all_threads=True)
signal_stack.enlarge_signal_stack()
vars(signal_stack).clear()
del signal_stack, sys.modules["uwsgibridge.system.signal_stack"]
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
print("goes on", end="")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep their stack")
def test_a_signal_after_the_end_of_its_module_finds_its_stack() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "goes on"), done.stderr
