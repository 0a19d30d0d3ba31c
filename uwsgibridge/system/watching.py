"""Watches code and single files, and calls back when they change."""

from __future__ import annotations

import fnmatch
import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Final

import trio

from uwsgibridge.errors import SettingsError

_CODE: Final = ("*.py",)

# Files that tools keep in a project, and files that editors write beside an open file.
_NEVER_CODE: Final = (
    *("__pycache__", ".git", ".hg", ".svn", ".venv", "venv", "node_modules", ".tox", ".nox"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".idea", ".vscode"),
    *(".#*", "flycheck_*"),
)

_QUIET_SECONDS: Final = 0.1
_TOUCH_INTERVAL_SECONDS: Final = 1.0

# How long the thread of awatch waits. Until then awatch does not return, even when it is cancelled: with its
# default of five seconds, Ctrl-C would take as long.
_THREAD_WAIT_MILLISECONDS: Final = 200

_NAMED_FILES: Final = 3


def require_watchfiles() -> None:
    """Check that `watch_code` can work.

    Raises:
        SettingsError: watchfiles is not installed.
    """
    try:
        importlib.import_module("watchfiles")
    except ImportError:
        raise SettingsError(
            "--reload: watchfiles is not installed; pip install 'uwsgibridge[dev]'"
        ) from None


def require_directories(directories: Sequence[Path]) -> None:
    """Check that the directories to watch exist.

    Raises:
        SettingsError: a directory does not.
    """
    for directory in directories:
        try:
            is_there = directory.is_dir()
        except OSError as error:  # the user may not look there, or the name is too long
            raise SettingsError(f"--reload-dir {directory}: {error.strerror}") from None
        if not is_there:
            raise SettingsError(
                f"--reload: there is no directory {str(directory.resolve())!r} (--reload-dir)"
            )


async def watch_code(
    directories: Sequence[Path],
    includes: Sequence[str],
    excludes: Sequence[str],
    reload: Callable[[str], object],
    *,
    quiet_seconds: float = _QUIET_SECONDS,
) -> None:
    """Call back when code changes, until cancelled.

    A glob fits a file when it fits the file or a directory above it, either by its name or by its
    path from the watched directory; ``*`` crosses slashes.

    Args:
        directories: watched with all files below them.
        includes: globs of files that count beside Python files, such as ``*.html``.
        excludes: globs of files that never count; they win over `includes`. Caches, version control and
            virtual environments never count.
        reload: called with a reason that names up to three files, once for a burst of changes.
        quiet_seconds: a burst is over when nothing changes for this time.

    Raises:
        SettingsError: a directory does not exist or can't be watched; raised before watching begins.
    """
    from watchfiles._rust_notify import WatchfilesRustInternalError

    require_directories(directories)
    roots = [directory.resolve() for directory in directories]
    wanted = _compile((*_CODE, *includes))
    unwanted = _compile((*_NEVER_CODE, *excludes))

    def take(paths: Iterable[str]) -> None:
        names = {
            path: str(relative)
            for path in paths
            for relative in _relative_to_each(roots, path)
            if _fits(wanted, relative) and not _fits(unwanted, relative)
        }
        if names:
            reload(f"{_enumerate(sorted(names.values()))} changed")

    while True:
        try:
            await _watch(roots, take, quiet_seconds)
        except* WatchfilesRustInternalError:
            # A file whose name is not UTF-8 has changed; the watcher can't be used afterwards.
            pass


async def until_watched() -> None:
    """Wait until each `watch_code` that was started just before notices changes.

    A `watch_code` watches from its first step on. Trio runs that step before this function returns.
    """
    for _ in range(2):
        await trio.lowlevel.checkpoint()


async def _watch(
    roots: Sequence[Path], take: Callable[[Iterable[str]], None], quiet_seconds: float
) -> None:
    from watchfiles import awatch
    from watchfiles._rust_notify import WatchfilesRustInternalError

    bursts = awatch(
        *roots,
        watch_filter=None,
        step=round(quiet_seconds * 1000),
        rust_timeout=_THREAD_WAIT_MILLISECONDS,
        ignore_permission_denied=True,
    )
    while True:
        try:
            changes = await anext(bursts)
        except (OSError, WatchfilesRustInternalError) as error:
            # An error of the start. Later errors come in a group, from awatch's own nursery.
            raise SettingsError(
                f"--reload can't watch {', '.join(map(str, roots))} ({error}): watch fewer "
                "directories (--reload-dir), or raise the system's limits (sysctl fs.inotify)"
            ) from None
        take(path for _, path in changes)


def _relative_to_each(roots: Sequence[Path], path: str) -> Iterable[PurePath]:
    return (PurePath(path).relative_to(it) for it in roots if PurePath(path).is_relative_to(it))


def _compile(globs: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, globs)))


def _fits(pattern: re.Pattern[str], relative: PurePath) -> bool:
    # The last of the parents is the watched directory itself.
    return any(
        pattern.match(str(it)) or pattern.match(it.name)
        for it in (relative, *relative.parents[:-1])
    )


async def watch_touch(
    files: Sequence[Path],
    reload: Callable[[str], object],
    *,
    interval_seconds: float = _TOUCH_INTERVAL_SECONDS,
) -> None:
    """Call back when a file is touched, replaced or made, until cancelled.

    Args:
        files: the files to watch. They may be missing, and so may their directories. Their state at the
            call counts as untouched.
        reload: called with a reason that names up to three files, once for all files of one interval.
        interval_seconds: how often the files are looked at.
    """
    # This polls, for two reasons. watchfiles itself wakes twenty times a second. And inotify watches the file
    # that the path led to at the start: it misses a deployment that swaps a symlink above the file, and all
    # changes on a network file system.
    known = {file: _identify(file) for file in files}
    while True:
        await trio.sleep(interval_seconds)
        found = {file: _identify(file) for file in files}
        touched = [str(file) for file in files if found[file] not in {None, known[file]}]
        known = found
        if touched:
            reload(f"{_enumerate(touched)} touched")


def _identify(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _enumerate(names: Sequence[str]) -> str:
    named = ", ".join(names[:_NAMED_FILES])
    unnamed = len(names) - _NAMED_FILES
    return named if unnamed <= 0 else f"{named} and {unnamed} more"
