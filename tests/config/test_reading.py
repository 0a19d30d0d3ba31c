"""What options name as a file may be a pipe, which has a deadline."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.config.reading import read_start


def test_no_more_is_read_than_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a" * 200_000)
    assert read_start(str(tmp_path / "file"), 150_000) == b"a" * 150_000
    assert read_start("/dev/zero", 150_000) == b"\0" * 150_000


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    content = b"a" * 200_000
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[content])
    writer.start()
    try:
        assert read_start(str(tmp_path / "pipe"), 1_000_000) == content
    finally:
        writer.join(PATIENCE_SECONDS)


def test_a_pipe_that_nobody_writes_to_has_a_deadline(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"nothing more came within 0\.05 seconds"):
        read_start(str(tmp_path / "pipe"), 10, seconds=0.05)
