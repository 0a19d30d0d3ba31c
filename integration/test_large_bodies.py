"""A gibibyte each way passes through the bridge and is not kept there."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.processes import descendants_of

pytestmark = pytest.mark.only(place="local")

GIBIBYTE = 1024 * 1024 * 1024
MOST_GROWTH_BYTES = 32 * 1024 * 1024

# A client that reads and writes in the 8 KiB of http.client would be what is measured.
PIECE_BYTES = 1024 * 1024


class Memory:
    """The memory of a process and of all that it has started."""

    def __init__(self, pid: int) -> None:
        self._processes = [Path(f"/proc/{number}") for number in [pid, *descendants_of(pid)]]
        for process in self._processes:
            # Forgets the peak so far (proc(5), /proc/PID/clear_refs).
            (process / "clear_refs").write_text("5")
        self._before = self._sum("VmRSS")

    def growth_bytes(self) -> int:
        return self._sum("VmHWM") - self._before

    def _sum(self, name: str) -> int:
        lines = [
            line
            for process in self._processes
            for line in (process / "status").read_text().splitlines()
            if line.startswith(f"{name}:")
        ]
        assert len(lines) == len(self._processes)
        return sum(int(line.split()[1]) * 1024 for line in lines)


@pytest.fixture
def connection(stack):
    where = urlsplit(stack.url)
    assert where.hostname
    connection = http.client.HTTPConnection(
        where.hostname, where.port, timeout=60, blocksize=PIECE_BYTES
    )
    # What is made once is not growth.
    connection.request("POST", "/unbuffered/count", body=bytes(PIECE_BYTES))
    connection.getresponse().read()
    yield connection
    connection.close()


def test_a_large_upload_takes_little_memory(stack, connection, tmp_path):
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(GIBIBYTE)
    memory = Memory(stack.pid)
    with path.open("rb") as file:
        connection.request(
            "POST", "/unbuffered/count", body=file, headers={"Content-Length": str(GIBIBYTE)}
        )
        with connection.getresponse() as answer:
            assert b'"bytes": %d' % GIBIBYTE in answer.read()
    assert memory.growth_bytes() < MOST_GROWTH_BYTES


def test_a_large_download_takes_little_memory(stack, connection):
    memory = Memory(stack.pid)
    connection.request("GET", f"/unbuffered/body?bytes={GIBIBYTE}&length={GIBIBYTE}")
    with connection.getresponse() as answer:
        assert answer.status == 200
        piece = bytearray(PIECE_BYTES)
        total = 0
        while count := answer.readinto(piece):
            total += count
    assert total == GIBIBYTE
    assert memory.growth_bytes() < MOST_GROWTH_BYTES


def test_a_download_to_a_client_that_stops_reading(stack, connection):
    """What it has not taken waits in the application, not in memory."""
    memory = Memory(stack.pid)
    connection.request("GET", f"/unbuffered/body?bytes={GIBIBYTE}&length={GIBIBYTE}")
    with connection.getresponse() as answer:
        assert answer.read(PIECE_BYTES)
        # Another request has its turn meanwhile.
        second = http.client.HTTPConnection(connection.host, connection.port, timeout=20)
        second.request("GET", "/arrived")
        with second.getresponse() as other:
            assert other.status == 200
        second.close()
    assert memory.growth_bytes() < MOST_GROWTH_BYTES
