"""A file without a path: empty, not inherited, and gone with its last descriptor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from uwsgibridge.system.memory_file import make_memory_file


@pytest.mark.parametrize("has_memfd", [True, False])
def test_a_memory_file_keeps_what_is_written(
    has_memfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_memfd:  # as on macOS
        monkeypatch.delattr(os, "memfd_create", raising=False)
    descriptor = make_memory_file("a-name")
    try:
        assert os.fstat(descriptor).st_size == 0
        assert os.fstat(descriptor).st_nlink == 0
        assert not os.get_inheritable(descriptor)
        os.write(descriptor, b"left behind")
        assert os.pread(descriptor, 100, 0) == b"left behind"
    finally:
        os.close(descriptor)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="in memory on Linux alone")
def test_its_name_is_shown() -> None:
    descriptor = make_memory_file("a-name")
    try:
        assert "a-name" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
    finally:
        os.close(descriptor)
