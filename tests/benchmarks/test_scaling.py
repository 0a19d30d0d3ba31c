"""The load without Nginx, and the table of how one worker grows with its threads."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.errors import BenchmarkError
from benchmarks.packet import make_packet
from benchmarks.scaling.__main__ import main
from benchmarks.scaling.load import Load, compile_load, put_load
from tests.log_events import PATIENCE_SECONDS

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "cc")) is None, reason="the load is compiled"
)

GOOD = b"HTTP/1.1 200 OK\r\n\r\nHello, world"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_load(tmp_path_factory.mktemp("load"))


@contextmanager
def server(path: Path, answers: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Give these answers, one to each connection, in two pieces."""
    seen: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(16)
        listening.settimeout(PATIENCE_SECONDS)

        def serve() -> None:
            while True:
                accepted, _ = listening.accept()
                with accepted:
                    if not (packet := accepted.recv(65536)):
                        return
                    seen.append(packet)
                    answer = next(answers)
                    accepted.sendall(answer[:5])
                    accepted.sendall(answer[5:])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield seen
        with socket.socket(socket.AF_UNIX) as ending:
            ending.connect(str(path))
        thread.join(PATIENCE_SECONDS)


def good_answers() -> Iterator[bytes]:
    while True:
        yield GOOD


def test_all_answers_are_counted(program: Path, tmp_path: Path) -> None:
    packet = make_packet("/x")
    with server(tmp_path / "s", good_answers()) as seen:
        answers, seconds = put_load(program, tmp_path / "s", packet, Load(3, 50))
    assert answers == len(seen)
    assert set(seen) == {packet}
    assert answers % 3 == 0
    assert 0.05 <= seconds < PATIENCE_SECONDS


def test_an_answer_that_is_not_200_ends_the_load(program: Path, tmp_path: Path) -> None:
    def answers() -> Iterator[bytes]:
        yield GOOD
        while True:
            yield b"HTTP/1.1 503 Service Unavailable\r\n\r\n"

    with (
        server(tmp_path / "s", answers()),
        pytest.raises(BenchmarkError, match="the load on s failed: an answer is not 200"),
    ):
        put_load(program, tmp_path / "s", make_packet("/"), Load(1, 10_000))


def test_where_nobody_listens_the_load_says_so(program: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="No such file or directory"):
        put_load(program, tmp_path / "s", make_packet("/"), Load(1, 50))


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BenchmarkError, match=r"no-such-compiler.*Set CC"):
        compile_load(tmp_path)


def test_the_table_has_a_line_for_each_number_of_threads() -> None:
    done = CliRunner().invoke(main, ["--threads", "1,3", "--rounds", "1", "--milliseconds", "20"])
    assert done.exit_code == 0, done.output
    rows = [
        line.split(" | ")
        for line in done.output.splitlines()
        if " | 1 | " in line or " | 3 | " in line
    ]
    assert [row[2] for row in rows] == ["1", "3"] * 3
    assert all(row[4] == "1.00 (1.00 to 1.00)" for row in rows[::2])
    assert all(float(row[5].removesuffix(" |").replace(",", "")) > 0 for row in rows)


def test_a_wrong_list_of_threads_is_refused() -> None:
    done = CliRunner().invoke(main, ["--threads", "2,0"])
    assert done.exit_code == 2
    assert "'2,0' is no list of numbers above 0, such as 1,8,64" in done.output
