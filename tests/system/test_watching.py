"""What asks for a restart: code that changes, and files that are touched or put in their place."""

from __future__ import annotations

import math
import os
import resource
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.errors import SettingsError
from uwsgibridge.system.watching import require_watchfiles, watch_code, watch_touch

# The first where it does not matter whether changes are told at once or one after the other; the
# second is longer than a busy machine takes between two of a burst's files.
SHORT_SECONDS = 0.05
BURST_SECONDS = 0.5

# Some intervals of the clock that jumps.
A_WHILE_SECONDS = 2.5

Watch = Callable[[Callable[[str], None]], Awaitable[None]]


@asynccontextmanager
async def watching(watch: Watch) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
    """Run a watch; gives the reasons that it calls back with."""
    found, reasons = trio.open_memory_channel[str](math.inf)
    with trio.fail_after(PATIENCE_SECONDS):
        async with found, reasons, trio.open_nursery() as nursery:
            nursery.start_soon(watch, found.send_nowait)
            await trio.testing.wait_all_tasks_blocked()  # it has begun
            yield reasons
            nursery.cancel_scope.cancel()


def touch(file: Path) -> None:
    """Change its time, by more than a file system's clock may round to."""
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 2_000_000_000))


# --- code


def watching_code(
    *directories: Path,
    includes: tuple[str, ...] = (),
    excludes: tuple[str, ...] = (),
    quiet_seconds: float = SHORT_SECONDS,
) -> Any:
    async def watch(reload: Callable[[str], None]) -> None:
        await watch_code(directories, includes, excludes, reload, quiet_seconds=quiet_seconds)

    return watching(watch)


@pytest.mark.trio
async def test_change_of_code_is_told(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    file = tmp_path / "app" / "models.py"
    file.write_text("")
    async with watching_code(tmp_path) as reasons:
        file.write_text("changed")
        assert await reasons.receive() == "app/models.py changed"
        file.unlink()
        assert await reasons.receive() == "app/models.py changed"
        (tmp_path / "saved").write_text("as an editor does")
        (tmp_path / "saved").replace(file)
        assert await reasons.receive() == "app/models.py changed"


@pytest.mark.trio
async def test_burst_is_told_once_with_three_names(tmp_path: Path) -> None:
    async with watching_code(tmp_path, quiet_seconds=BURST_SECONDS) as reasons:
        for name in "edcba":
            (tmp_path / f"{name}.py").touch()
        assert await reasons.receive() == "a.py, b.py, c.py and 2 more changed"
        (tmp_path / "a.py").write_text("again")
        assert await reasons.receive() == "a.py changed"


@pytest.mark.trio
@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "app.pyc",
        ".#app.py",
        "__pycache__/app.py",
        ".git/hooks/check.py",
        ".venv/lib/site.py",
        "web/node_modules/gyp/gyp.py",
    ],
)
async def test_what_is_no_code_is_not_told(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    async with watching_code(tmp_path) as reasons:
        file.touch()
        (tmp_path / "app.py").touch()
        assert await reasons.receive() == "app.py changed"


@pytest.mark.trio
@pytest.mark.parametrize(
    "glob",
    ["*.html", "page.html", "templates", "*/templates/*.html", "site/templates", "s*/page.html"],
)
async def test_included_files_count(tmp_path: Path, glob: str) -> None:
    directory = tmp_path / "site" / "templates" / "parts"
    directory.mkdir(parents=True)
    async with watching_code(tmp_path, includes=("*.css", glob)) as reasons:
        (directory / "page.html").touch()
        assert await reasons.receive() == "site/templates/parts/page.html changed"


@pytest.mark.trio
@pytest.mark.parametrize("glob", ["test_*", "test_app.py", "tests", "site/tests/*", "site/*/unit"])
async def test_excluded_files_do_not_count(tmp_path: Path, glob: str) -> None:
    directory = tmp_path / "site" / "tests" / "unit"
    directory.mkdir(parents=True)
    async with watching_code(tmp_path, includes=("*.py",), excludes=("*.md", glob)) as reasons:
        (directory / "test_app.py").touch()
        (tmp_path / "site" / "app.py").touch()
        assert await reasons.receive() == "site/app.py changed"


@pytest.mark.trio
async def test_only_what_is_below_the_directory_decides(tmp_path: Path) -> None:
    project = tmp_path / ".venv" / "tests"
    project.mkdir(parents=True)
    async with watching_code(project, excludes=("tests",)) as reasons:
        (project / "app.py").touch()
        assert await reasons.receive() == "app.py changed"


@pytest.mark.trio
async def test_several_directories_are_watched_even_one_in_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/inner", "b"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    directories = (Path("a"), Path("a/inner"), tmp_path / "b")
    async with watching_code(*directories, quiet_seconds=BURST_SECONDS) as reasons:
        (tmp_path / "a" / "inner" / "one.py").touch()
        (tmp_path / "b" / "two.py").touch()
        assert await reasons.receive() == "one.py, two.py changed"


@pytest.mark.trio
async def test_name_that_is_not_utf8_does_not_end_it(tmp_path: Path) -> None:
    async with watching_code(tmp_path) as reasons:
        try:
            os.close(os.open(os.fsencode(tmp_path) + b"/\xff.jpg", os.O_CREAT))
        except OSError:
            pytest.skip("this file system takes only UTF-8")
        # When the watcher works again can't be seen from outside.
        while True:
            (tmp_path / "app.py").touch()
            with trio.move_on_after(SHORT_SECONDS * 10):
                assert await reasons.receive() == "app.py changed"
                return


@pytest.mark.trio
async def test_cancelled_it_ends_at_once(tmp_path: Path) -> None:
    async with watching_code(tmp_path):
        cancelled_at = trio.current_time()
    # Of watchfiles itself it would be five seconds.
    assert trio.current_time() - cancelled_at < 3


@pytest.mark.trio
async def test_directory_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(SettingsError, match="--reload-dir") as caught:
        await watch_code([tmp_path, missing], (), (), pytest.fail)
    assert f"there is no directory '{missing}'" in str(caught.value)
    with pytest.raises(SettingsError, match="--reload-dir"):
        await watch_code([tmp_path, tmp_path / ("a" * 300)], (), (), pytest.fail)


@pytest.mark.trio
@pytest.mark.skipif(sys.platform != "linux", reason="inotify takes a descriptor")
async def test_limit_of_the_system_is_told(tmp_path: Path) -> None:
    require_watchfiles()  # its import needs descriptors
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(SettingsError) as caught:
            await watch_code([tmp_path], (), (), pytest.fail)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert str(caught.value).startswith(f"--reload can't watch {tmp_path} (")
    assert "Too many open files" in str(caught.value)
    assert str(caught.value).endswith(
        "): watch fewer directories (--reload-dir), "
        "or raise the system's limits (sysctl fs.inotify)"
    )


def test_without_watchfiles_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    require_watchfiles()
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(SettingsError) as caught:
        require_watchfiles()
    assert str(caught.value) == (
        "--reload: watchfiles is not installed; pip install 'uwsgibridge[dev]'"
    )


# --- touched files, on a clock that jumps


def watching_touch(*files: Path, interval_seconds: float = 1.0) -> Any:
    async def watch(reload: Callable[[str], None]) -> None:
        await watch_touch(files, reload, interval_seconds=interval_seconds)

    return watching(watch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "touch-me"
    made.touch()
    return made


@pytest.mark.trio
@pytest.mark.parametrize("interval_seconds", [0.25, 1.0])
async def test_touch_is_told_once_within_the_interval(
    file: Path, interval_seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with watching_touch(file, interval_seconds=interval_seconds) as reasons:
        began_at = trio.current_time()
        touch(file)
        assert await reasons.receive() == f"{file} touched"
        assert trio.current_time() - began_at <= interval_seconds
        await trio.sleep(A_WHILE_SECONDS)
        with pytest.raises(trio.WouldBlock):
            reasons.receive_nowait()
        touch(file)
        assert await reasons.receive() == f"{file} touched"


@pytest.mark.trio
async def test_replacement_of_the_same_age_is_told(
    file: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with watching_touch(file) as reasons:
        other = file.with_name("other")
        shutil.copy2(file, other)
        other.replace(file)
        assert await reasons.receive() == f"{file} touched"


@pytest.mark.trio
async def test_coming_into_being_is_told_and_going_is_not(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "later" / "touch-me"
    async with watching_touch(file) as reasons:
        await trio.sleep(A_WHILE_SECONDS)
        file.parent.mkdir()
        await trio.sleep(A_WHILE_SECONDS)
        with pytest.raises(trio.WouldBlock):
            reasons.receive_nowait()
        file.touch()
        assert await reasons.receive() == f"{file} touched"
        aside = file.rename(file.with_name("aside"))
        await trio.sleep(A_WHILE_SECONDS)
        with pytest.raises(trio.WouldBlock):
            reasons.receive_nowait()
        aside.rename(file)
        assert await reasons.receive() == f"{file} touched"


@pytest.mark.trio
async def test_deployment_by_a_symlink_above_is_told_and_followed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    current = tmp_path / "current"
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "touch-me").touch()
    current.symlink_to("1")
    async with watching_touch(current / "touch-me") as reasons:
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").replace(current)
        assert await reasons.receive() == f"{current}/touch-me touched"
        touch(tmp_path / "2" / "touch-me")
        assert await reasons.receive() == f"{current}/touch-me touched"


@pytest.mark.trio
async def test_files_of_one_interval_are_told_together(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    files = [tmp_path / name for name in "abcde"]
    async with watching_touch(*files) as reasons:
        for one in files[1:]:
            one.touch()
        told = ", ".join(map(str, files[1:4]))
        assert await reasons.receive() == f"{told} and 1 more touched"
        files[0].touch()
        assert await reasons.receive() == f"{files[0]} touched"
