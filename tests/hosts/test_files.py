"""What counts as a file that the kernel can send, and what has to be read block by block."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from uwsgibridge.hosts.files import FileWrapper, begin_file, regular_file

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "content.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# What the kernel may send.


def spooled(path: Path) -> Any:
    file = tempfile.SpooledTemporaryFile(max_size=10)  # noqa: SIM115 - the tests close it
    file.write(path.read_bytes())
    file.seek(0)
    return file


def named(path: Path) -> Any:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - the tests close it
    file.write(path.read_bytes())
    file.seek(0)
    return file


REGULAR: dict[str, Callable[[Path], Any]] = {
    "buffered": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "read-and-write": lambda path: path.open("r+b"),
    "named-temporary": named,
}


@pytest.mark.parametrize("make", REGULAR.values(), ids=REGULAR)
def test_regular_file_is_taken_from_where_it_stands(
    make: Callable[[Path], Any], path: Path, undo: ExitStack
):
    file = undo.enter_context(make(path))
    at_start = regular_file(file)
    file.seek(1000)
    further = regular_file(file)

    assert at_start is not None
    assert (at_start.offset, at_start.size_bytes) == (0, len(CONTENT))
    assert further is not None
    assert (further.offset, further.size_bytes) == (1000, len(CONTENT) - 1000)
    assert further.descriptor == file.fileno()


def test_position_is_the_files_own_and_not_that_of_its_read_ahead(path: Path):
    with path.open("rb") as file:
        assert file.read(10) == CONTENT[:10]
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) > 10
        found = regular_file(file)

    assert found is not None
    assert (found.offset, found.size_bytes) == (10, len(CONTENT) - 10)


def test_position_beyond_the_end_leaves_nothing(path: Path):
    with path.open("rb") as file:
        file.seek(len(CONTENT) + 5)
        found = regular_file(file)

    assert found is not None
    assert found.size_bytes == 0


def test_reading_leaves_the_position_where_it_is(path: Path):
    with path.open("rb") as file:
        file.seek(3)
        found = regular_file(file)
        assert found is not None
        assert found.read(100, 50) == CONTENT[100:150]
        assert found.read(len(CONTENT) - 2, 50) == CONTENT[-2:]
        assert found.read(len(CONTENT), 50) == b""
        assert file.tell() == 3


@pytest.mark.parametrize("offset", [0, 1000, len(CONTENT), len(CONTENT) + 5])
def test_a_small_file_is_read_whole(path: Path, offset: int):
    with path.open("rb") as file:
        found = begin_file(file.fileno(), offset)

    assert found.first_piece == CONTENT[offset:]
    assert found.size_bytes == len(found.first_piece)


@pytest.mark.parametrize("size", [16_384, 16_385, 1_000_000])
def test_of_a_larger_file_only_the_beginning_is_read(path: Path, size: int):
    content = (CONTENT * 100)[:size]
    path.write_bytes(content)
    with path.open("rb") as file:
        found = begin_file(file.fileno(), 0)

    assert found.size_bytes == size
    assert found.first_piece == content[: size if size <= 16_384 else 4096]


SHORTER_THAN_IT_SAYS = Path("/sys/class/net/lo/mtu")


@pytest.mark.skipif(not SHORTER_THAN_IT_SAYS.exists(), reason="not mounted here")
def test_a_file_that_has_less_than_its_size_says_is_read_to_its_end():
    path = SHORTER_THAN_IT_SAYS
    content = path.read_bytes()
    assert path.stat().st_size > len(content)
    with path.open("rb") as file:
        found = regular_file(file)

    assert found is not None
    assert (found.size_bytes, found.first_piece) == (len(content), content)


def test_a_file_that_cannot_be_read_is_an_error(path: Path):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        with pytest.raises(OSError):
            begin_file(descriptor, 0)
    finally:
        os.close(descriptor)


# What has to be read.


class Decrypting(io.RawIOBase):
    """An application's own stream over a file, whose bytes it changes."""

    def __init__(self, path: Path) -> None:
        self._below = path.open("rb", buffering=0)

    def fileno(self) -> int:
        return self._below.fileno()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._below.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._below.seek(offset, whence)

    def readinto(self, buffer: Any, /) -> int:
        count = self._below.readinto(buffer)
        view = memoryview(buffer)
        view[:count] = bytes(byte ^ 0xFF for byte in view[:count])
        return count

    def close(self) -> None:
        self._below.close()
        super().close()


class Halves:
    """A wrapper that gives all of what is below it (as Django's File does), and half of its bytes."""

    def __init__(self, file: Any) -> None:
        self.file = self.raw = file
        self.fileno = file.fileno
        self.tell = file.tell
        self.close = file.close

    def read(self, size: int) -> bytes:
        return bytes(self.file.read(size)[::2])

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def compressed(module: Any) -> Callable[[Path], Any]:
    def make(path: Path) -> Any:
        path.write_bytes(module.compress(CONTENT))
        return module.open(path)

    return make


def pipe(_: Path) -> Any:
    reading, writing = os.pipe()
    os.close(writing)
    return os.fdopen(reading, "rb")


def of_a_socket(_: Path) -> Any:
    one, other = socket.socketpair()
    with one, other:
        return one.makefile("rb")


TO_BE_READ: dict[str, Callable[[Path], Any]] = {
    "in-memory": lambda _: io.BytesIO(CONTENT),
    "pipe": pipe,
    "socket": of_a_socket,
    "text": lambda path: io.TextIOWrapper(path.open("rb"), "latin-1"),
    "gzip": compressed(gzip),
    "bz2": compressed(bz2),
    "lzma": compressed(lzma),
    "buffered-gzip": lambda path: io.BufferedReader(compressed(gzip)(path)),
    "buffered-lzma": lambda path: io.BufferedReader(compressed(lzma)(path)),
    "buffered-own-stream": lambda path: io.BufferedReader(Decrypting(path)),
    "own-stream": Decrypting,
    "own-wrapper": lambda path: Halves(path.open("rb")),
    # Rolled over, it is a file of its own on disk; that is its secret.
    "spooled-temporary": spooled,
    "device": lambda _: io.FileIO("/dev/null"),
}


@pytest.mark.parametrize("make", TO_BE_READ.values(), ids=TO_BE_READ)
def test_anything_else_is_read_through_its_own_read(
    make: Callable[[Path], Any], path: Path, undo: ExitStack
):
    file = undo.enter_context(make(path))

    assert regular_file(file) is None


class Empty:
    """As a field of a Django model that has no file."""

    @property
    def file(self) -> Any:
        raise ValueError("no file is associated with it")


class Lies:
    """What is no file, in one respect or another."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    "filelike",
    [
        None,
        object(),
        b"bytes",
        Empty(),
        Lies(fileno=None),
        Lies(fileno=lambda: -1),
        Lies(fileno=lambda: "1"),
        Lies(fileno=lambda: 10**9, tell=lambda: 0),
        Lies(fileno=lambda: 10**30, tell=lambda: 0),
    ],
    ids=lambda filelike: f"{type(filelike).__name__}",
)
def test_what_is_no_file_at_all_is_no_error(filelike: object):
    assert regular_file(filelike) is None


def test_closed_file_is_no_error(path: Path):
    with path.open("rb") as file:
        pass

    assert regular_file(file) is None


# The wrapper.


def test_wrapper_gives_blocks_of_the_size_that_was_asked_for():
    wrapper = FileWrapper(io.BytesIO(CONTENT), 1000)

    blocks = list(wrapper)

    assert b"".join(blocks) == CONTENT
    assert {len(block) for block in blocks[:-1]} == {1000}


def test_wrapper_of_an_empty_file_gives_nothing():
    assert list(FileWrapper(io.BytesIO(b""))) == []


def test_wrapper_closes_the_file():
    file = io.BytesIO(b"")
    FileWrapper(file).close()

    assert file.closed


def test_wrapper_of_what_can_not_be_closed_has_no_close():
    class OnlyReads:
        def read(self, size: int) -> bytes:
            return b""

    assert not hasattr(FileWrapper(OnlyReads()), "close")
