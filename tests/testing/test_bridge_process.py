"""A bridge of a test: what is known of it once it has ended."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.testing import BridgeProcess

# The shell writes when the bridge has ended, which closes the pipe that it reads from.
APPLICATION = """
import os, subprocess

reads, writes = os.pipe()
subprocess.Popen(
    ["sh", "-c", f"cat <&{reads}; echo the last line >&2"], pass_fds=[reads], start_new_session=True
)

def app(environ, start_response):
    start_response("204 No Content", [])
    return []
"""


def test_its_log_was_read_when_it_has_ended(directory: Path) -> None:
    (directory / "telling.py").write_text(APPLICATION)
    with BridgeProcess(
        *("telling:app", "--app-dir", str(directory), "--bind", f"unix:{directory}/app.sock"),
        *("--workers", "0"),
    ) as bridge:
        bridge.signal(signal.SIGTERM)
        assert bridge.wait_ended(PATIENCE_SECONDS) == 0
        assert bridge.log.text().endswith("the last line\n")
