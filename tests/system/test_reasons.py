"""Why something can't be made or run."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.other_users import as_nobody, need_root
from uwsgibridge.system.reasons import why_not_made, why_not_run


@pytest.fixture
def ground() -> Iterator[Path]:
    """A directory that everybody may enter; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@need_root
def test_the_directory_that_keeps_a_user_from_a_program_is_named(ground: Path) -> None:
    closed = ground / "closed"
    (closed / "bin").mkdir(parents=True)
    (closed / "bin/python").write_text("")
    closed.chmod(0o700)
    (ground / "python").symlink_to(closed / "bin/python")
    with as_nobody():
        why = why_not_run(str(ground / "python"))
    assert f"run {closed}/bin/python: {closed} is closed to it; " in why


@need_root
def test_a_program_that_only_others_may_run_is_named(ground: Path) -> None:
    program = ground / "python"
    program.write_text("")
    program.chmod(0o700)
    with as_nobody():
        assert f"run {program}; " in why_not_run(str(program))


@pytest.mark.parametrize(
    ("uid", "number", "told"),
    [
        (65_534, errno.EACCES, "no permission to create a socket in /a as "),
        (65_534, errno.EPERM, "give it to that user, or take another directory"),
        (0, errno.EACCES, "as root; give it to that user"),
        # In a container that was started without the capability, from the fchown() of a file that is there.
        (0, errno.EPERM, "a container needs the capability CHOWN"),
    ],
)
def test_who_has_no_permission_is_said(
    uid: int, number: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    error = OSError(number, os.strerror(number))
    assert told in why_not_made(error, Path("/a"), "create a socket")
