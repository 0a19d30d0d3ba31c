"""Folds the files of ended processes into one for each kind, so that a scrape is right at each moment.

``MultiProcessCollector.collect`` lists the directory, and then opens and reads one file after the other, without a lock
(prometheus_client/multiprocess.py). Between these steps, files come and go. A scrape must never count a process twice, or
leave one out: a counter that goes back is a restart to Prometheus, and counts as if all of it had happened anew. So

- the content that stands under a name never changes, but by the process whose file it is. The sums get a new name each time:
  ``counter_ended-17.db`` follows upon ``counter_ended-16.db``.
- while names change, there is a link that leads nowhere, and that a scrape would have to read. A scrape that has listed
  the directory before opens a file that is gone, or has read all that belongs together. One that lists it meanwhile finds the
  link. Each scrape is right, or fails as a whole.
- `uwsgibridge.multiproc.reading` has a scrape in a worker wait and begin anew where it fails by that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Final

from uwsgibridge.multiproc.leases import Writers, is_alive, somebody_waits, take_lease
from uwsgibridge.multiproc.names import (
    BARRIER,
    BARRIER_TARGET,
    LOCK,
    FileName,
    folded_name,
    new_name,
    old_name,
    read_name,
    set_aside_name,
)
from uwsgibridge.multiproc.records import (
    NOTHING,
    DamagedError,
    Records,
    form,
    merge,
    parse,
    used_bytes,
)

# How many files one turn takes, each of which is open meanwhile, and how long it may read them.
_MOST_FILES: Final = 128
_READING_SECONDS: Final = 0.25

# A page; few files use more.
_FIRST_BYTES: Final = 4096

# How long a process may take to open a file that it makes. Between the two, the kernel knows no writer.
_OPENING_SECONDS: Final = 10.0

_KIND_BY_PROCESS: Final = "gauge_all"

# The lock's file is read by scrapes of each user who may read the figures.
_LOCK_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file that could not be read.

    Attributes:
        name: it had.
        kept_as: its name by now.
        reason: the end of a sentence.
    """

    name: str
    kept_as: str
    reason: str


@dataclass(slots=True)
class Turn:
    """What one turn has done.

    Attributes:
        damaged: files that were set aside.
        has_more: whether there is more to do at once.
        was_held_off: whether a scrape was under way that must not fail again: the turn has changed nothing.
    """

    damaged: list[Damaged] = field(default_factory=list)
    has_more: bool = False
    was_held_off: bool = False


@dataclass(frozen=True, slots=True)
class _Taken:
    """A file of an ended process that is to go."""

    name: FileName
    descriptor: int
    is_leased: bool
    records: Records


class FilesOfEnded:
    """Finds the files of ended processes, and folds them. Its calls block.

    Args:
        directory: a descriptor of the directory, which the caller closes.
        kept_gauges: of how many ended processes the gauges of the mode ``all`` stay, which no sum can replace.
    """

    def __init__(self, directory: int, kept_gauges: int) -> None:
        self._directory = directory
        self._kept_gauges = kept_gauges
        self._lock = os.open(
            LOCK,
            os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
            _LOCK_MODE,
            dir_fd=directory,
        )
        with contextlib.suppress(FileNotFoundError):
            os.unlink(BARRIER, dir_fd=directory)

    def close(self) -> None:
        """Close what this object has opened."""
        os.close(self._lock)

    def fold(self, living: Collection[int]) -> Turn:
        """Fold what ended processes have left, or a part of it.

        Args:
            living: the numbers of processes that have not ended, whose files need no look.

        Raises:
            OSError: the directory can't be changed; all that was counted is still there.
        """
        turn = Turn()
        names = [it for it in map(read_name, os.listdir(self._directory)) if it is not None]  # noqa: PTH208 - a descriptor
        known = {str(it) for it in living}
        sums = {it.kind: it for it in sorted(names, key=lambda it: it.folded) if it.folded}
        others = [it for it in names if not it.folded and it.identifier not in known]
        with contextlib.ExitStack() as stack:
            taken = self._take_ended(others, turn, stack)
            if taken:
                self._replace(taken, sums, turn)
        return turn

    def _take_ended(
        self, names: Sequence[FileName], turn: Turn, stack: contextlib.ExitStack
    ) -> list[_Taken]:
        """Choose the files that are to go, and read them; those that can go at once are removed."""
        taken: list[_Taken] = []
        gauges: list[tuple[float, _Taken]] = []
        until = monotonic() + _READING_SECONDS
        for name in names:
            if len(taken) >= _MOST_FILES or monotonic() > until:
                turn.has_more = True
                break
            with contextlib.ExitStack() as opened:
                one = self._open_ended(name, opened, turn)
                if one is None:
                    continue
                if name.kind == _KIND_BY_PROCESS:
                    # Their leases are not kept: hundreds may stay.
                    gauges.append((os.fstat(one.descriptor).st_mtime, one))
                    continue
                taken.append(one)
                stack.push(opened.pop_all())
        gauges.sort(key=lambda it: it[0], reverse=True)
        too_many = gauges[self._kept_gauges :]
        room = _MOST_FILES - len(taken)
        turn.has_more |= len(too_many) > room
        for _, one in too_many[:room]:
            again = self._open_ended(one.name, stack, turn)
            taken += [again] if again is not None else []
        return taken

    def _open_ended(self, name: FileName, stack: contextlib.ExitStack, turn: Turn) -> _Taken | None:
        """Open a file whose process has ended; None where it has not, or the file is gone then."""
        try:
            descriptor = os.open(
                name.text, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory
            )
        except OSError:
            return None  # removed by the application, or of another user, whose files stay
        stack.callback(os.close, descriptor)
        writers = take_lease(descriptor)
        if writers is Writers.SOME or (writers is Writers.UNKNOWN and is_alive(name.identifier)):
            return None
        try:
            records = parse(_read(descriptor))
        except DamagedError as error:
            self._set_aside(name, error, turn)
            return None
        if not records.samples and time() - os.fstat(descriptor).st_mtime < _OPENING_SECONDS:
            return None
        if name.is_live:
            # A scrape expects that such a file vanishes; hooks of applications remove it, too.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name.text, dir_fd=self._directory)
            return None
        return _Taken(name, descriptor, writers is Writers.NONE, records)

    def _set_aside(self, name: FileName, error: DamagedError, turn: Turn) -> None:
        """Take a damaged file out of the scrapes, all of which it would break; the last one of each kind stays."""
        kept_as = set_aside_name(name.kind)
        self._rename(name.text, kept_as)
        turn.damaged.append(Damaged(name.text, kept_as, str(error)))

    def _replace(self, taken: Sequence[_Taken], sums: dict[str, FileName], turn: Turn) -> None:
        """Put sums in the place of the files that were taken."""
        by_kind = defaultdict[str, list[_Taken]](list)
        for one in taken:
            if one.records.samples and one.name.kind != _KIND_BY_PROCESS:
                by_kind[one.name.kind].append(one)
        changed = {kind: sums[kind] for kind in by_kind if kind in sums}
        new = {}
        for kind, several in by_kind.items():
            before = [self._read_sum(changed[kind], turn)] if kind in changed else []
            merged = merge(kind, [*before, *(it.records for it in several)])
            number = changed[kind].folded + 1 if kind in changed else 1
            new[new_name(kind)] = folded_name(kind, number)
            self._write(new_name(kind), form(merged), like=several[0].descriptor)
        old = [it.name.text for it in taken] + [it.text for it in changed.values()]
        leased = [it.descriptor for it in taken if it.is_leased]
        turn.was_held_off = not self._exchange(old, new, leased)
        for name in (*map(old_name, old), *new):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._directory)

    def _read_sum(self, name: FileName, turn: Turn) -> Records:
        descriptor = os.open(
            name.text, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory
        )
        try:
            return parse(_read(descriptor))
        except DamagedError as error:
            self._set_aside(name, error, turn)
            return NOTHING
        finally:
            os.close(descriptor)

    def _write(self, name: str, content: bytes, *, like: int) -> None:
        """Write a new file, which those may read who may read another one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._directory)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(like).st_mode))
            file.write(content)

    def _exchange(self, old: Sequence[str], new: Mapping[str, str], leased: Sequence[int]) -> bool:
        """Hide the old files, and show the new ones.

        Args:
            old: names of files to hide.
            new: the names to show files by, by their hidden names.
            leased: descriptors of old files with a lease.

        Returns:
            Whether that was done. It was not where a scrape must not fail again, or where an application opens one of the
            old files, or has removed one.
        """
        with self._scrapes_kept_off() as may_change:
            if not may_change:
                return False
            done: list[tuple[str, str]] = []
            try:
                for name in old:
                    self._rename(name, old_name(name))
                    done.append((name, old_name(name)))
                nobody_waits = not any(map(somebody_waits, leased))
                if nobody_waits:
                    for hidden, name in new.items():
                        self._rename(hidden, name)
                        done.append((hidden, name))
                    done.clear()
            except FileNotFoundError:
                return False
            finally:
                for before, after in reversed(done):
                    self._rename(after, before)
            return nobody_waits

    @contextlib.contextmanager
    def _scrapes_kept_off(self) -> Iterator[bool]:
        """Have scrapes fail while the block runs; False where one is under way that must not."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass  # a file system without locks
        try:
            os.symlink(BARRIER_TARGET, BARRIER, dir_fd=self._directory)
            try:
                yield True
            finally:
                os.unlink(BARRIER, dir_fd=self._directory)
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _rename(self, before: str, after: str) -> None:
        os.rename(before, after, src_dir_fd=self._directory, dst_dir_fd=self._directory)


def _read(descriptor: int) -> bytes:
    """Read what is used of a file, most of which has never been written."""
    head = os.pread(descriptor, _FIRST_BYTES, 0)
    missing = used_bytes(head) - len(head)
    return head + os.pread(descriptor, missing, len(head)) if missing > 0 else head
