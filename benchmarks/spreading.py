"""The workload of several workers: who serves, and who is woken up for a connection that another one has taken."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.cpu_time import processes_cpu_nanoseconds, session_pids
from benchmarks.errors import BenchmarkError
from benchmarks.load import Request
from benchmarks.metrics import HIGH_SHARE, LOW_SHARE, USELESS_HIGH, USELESS_LOW, Metric
from benchmarks.requests_load import driven
from benchmarks.turn import Turn, probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

METRICS = (LOW_SHARE, HIGH_SHARE, USELESS_LOW, USELESS_HIGH)

_LOW_REQUESTS = 200
_HIGH_CONNECTIONS = 64
_ATTACH_SECONDS = 10.0

_WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6")
_ACCEPTS = ("accept", "accept4")

# "4711  accept4(5, 0x0, NULL, SOCK_CLOEXEC) = -1 EAGAIN (...)", or "4711  <... accept4 resumed>..."
_CALL = re.compile(r"^(\d+)\s+(?:<\.\.\. )?(\w+)(?:\(| resumed>).*?= (-?\d+)(?: (E\w+))?")


def find_strace() -> str:
    """Return the path of strace, which tells useless wake-ups.

    Raises:
        BenchmarkError: it isn't installed.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise BenchmarkError(
            "strace, which counts useless wake-ups, isn't on PATH; Debian and Ubuntu have it:"
            " apt-get install strace."
        )
    return strace


def over_workers(turn: Turn) -> dict[Metric, float]:
    """Measure how requests spread over the workers of a server.

    With one connection, the answers tell which worker has served; with 64, it is told by the CPU time that each
    process uses. Useless wake-ups are counted in further runs: strace makes a server slow.
    """
    low = _served_one_by_one(turn)
    pids = session_pids(turn.process.session)
    before = processes_cpu_nanoseconds(pids)
    driven(turn, Request("/"), _HIGH_CONNECTIONS)
    after = processes_cpu_nanoseconds(pids)
    used = [after[pid] - before[pid] for pid in pids if pid in after and pid in before]
    with _traced(turn) as traced_low:
        _served_one_by_one(turn)
    with _traced(turn) as traced_high:
        report = driven(turn, Request("/"), _HIGH_CONNECTIONS)
    return {
        LOW_SHARE: 100 * max(low.values()) / _LOW_REQUESTS,
        HIGH_SHARE: 100 * max(used) / max(1, sum(used)),
        USELESS_LOW: traced_low.useless / _LOW_REQUESTS,
        USELESS_HIGH: traced_high.useless / report.requests,
    }


def _served_one_by_one(turn: Turn) -> Counter[bytes]:
    served: Counter[bytes] = Counter()
    for _ in range(_LOW_REQUESTS):
        served[probe(turn.port, turn.server.name, Request("/pid"), None)] += 1
    return served


@dataclass(slots=True)
class Trace:
    """What strace has seen."""

    useless: int = 0
    accepted: int = 0
    _found: dict[str, bool | None] = field(default_factory=dict)

    def read(self, lines: Iterable[str]) -> None:
        """Count the wake-ups, by thread, whose first accept found no connection."""
        for line in lines:
            call = _CALL.match(line)
            if call is None:
                continue
            thread, name, result, error = call.groups()
            if name in _WAITS and int(result) > 0:
                self._found[thread] = None
            elif name in _ACCEPTS:
                if int(result) >= 0:
                    self.accepted += 1
                    self._found[thread] = True
                elif error == "EAGAIN" and thread in self._found and self._found[thread] is None:
                    self.useless += 1
                    self._found[thread] = False


@contextmanager
def _traced(turn: Turn) -> Iterator[Trace]:
    trace = Trace()
    with TemporaryDirectory(prefix="trace-") as directory:
        file = Path(directory, "trace")
        targets = [word for pid in session_pids(turn.process.session) for word in ("-p", str(pid))]
        calls = ",".join(f"?{name}" for name in (*_WAITS, *_ACCEPTS))
        with subprocess.Popen(
            [find_strace(), "-f", "-o", str(file), "-e", f"trace={calls}", *targets],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as strace:
            try:
                _wait_attached(strace, len(targets) // 2)
                yield trace
            finally:
                strace.terminate()
                strace.wait(_ATTACH_SECONDS)
        trace.read(file.read_text(errors="replace").splitlines())


def _wait_attached(strace: subprocess.Popen[str], processes: int) -> None:
    assert strace.stderr is not None
    deadline = time.monotonic() + _ATTACH_SECONDS
    for _ in range(processes):
        line = strace.stderr.readline()
        if "attached" not in line or time.monotonic() > deadline:
            raise BenchmarkError(f"strace could not be attached: {line.strip()}")
