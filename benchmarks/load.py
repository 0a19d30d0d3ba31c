"""Make the load with wrk, and read what it reports."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

_GRACE_SECONDS = 15.0
"""What wrk may take beyond its duration: it waits for answers, two seconds at most by its own time limit."""

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


_SCRIPT = Path(__file__).with_name("upload.lua")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    `headers` are sent beside Host. With `upload_bytes` above 0 it is a POST with so long a body.
    """

    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    upload_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What wrk has counted in one run.

    `requests` are the answers it got, of any status; `bad_statuses` those of them outside 200 to 399. The others are
    connections that could not be made, read from or written to, and requests without an answer in two seconds.
    """

    requests: int
    requests_per_second: float
    p50_seconds: float
    p99_seconds: float
    bad_statuses: int = 0
    connect_errors: int = 0
    read_errors: int = 0
    write_errors: int = 0
    timeouts: int = 0

    @property
    def errors(self) -> int:
        """All that went wrong."""
        return (
            self.bad_statuses
            + self.connect_errors
            + self.read_errors
            + self.write_errors
            + self.timeouts
        )


def find_wrk() -> str:
    """Return the path of wrk."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchmarkError(
            "wrk, which makes the load, isn't on PATH; Debian and Ubuntu have it: apt-get install wrk."
        )
    return wrk


def drive(
    wrk: str, request: Request, *, port: int, host: str, connections: int, seconds: int
) -> LoadReport:
    """Keep so many connections busy with a request for so many seconds, as one thread.

    Args:
        wrk: from `find_wrk`.
        request: the same each time.
        port: of Nginx, on 127.0.0.1.
        host: the Host header, by which Nginx chooses the server.
        connections: each has one request under way at any time.
        seconds: whole ones, wrk knows no others.

    Raises:
        BenchmarkError: wrk failed or did not end.
    """
    argv = [
        *(wrk, "--threads", "1", "--connections", str(connections)),
        *("--duration", f"{seconds}s", "--latency", "--header", f"Host: {host}"),
        *(word for header in request.headers for word in ("--header", ": ".join(header))),
        *(["--script", str(_SCRIPT)] if request.upload_bytes else []),
        f"http://127.0.0.1:{port}{request.path}",
        *(["--", str(request.upload_bytes)] if request.upload_bytes else []),
    ]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=seconds + _GRACE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(
            f"wrk did not end within {seconds + _GRACE_SECONDS:g} s against {host}."
        ) from error
    if done.returncode != 0:
        raise BenchmarkError(
            f"wrk failed against {host} with exit status {done.returncode}: {done.stderr.strip()}"
        )
    return parse_report(done.stdout)


def parse_report(text: str) -> LoadReport:
    """Parse the output of `wrk --latency`.

    Raises:
        BenchmarkError: it isn't such an output.
    """
    requests = re.search(r"^\s*(\d+) requests in ", text, re.MULTILINE)
    rate = re.search(r"^Requests/sec:\s*([\d.]+)\s*$", text, re.MULTILINE)
    p50, p99 = (
        re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s|m|h)\s*$", text, re.MULTILINE)
        for percent in (50, 99)
    )
    if requests is None or rate is None or p50 is None or p99 is None:
        raise BenchmarkError(f"wrk's report can't be read:\n{text}")
    # These two lines are there only when something went wrong.
    sockets = re.search(
        r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)\s*$",
        text,
        re.MULTILINE,
    )
    connect, read, write, timeout = map(int, sockets.groups()) if sockets else (0, 0, 0, 0)
    statuses = re.search(r"^\s*Non-2xx or 3xx responses: (\d+)\s*$", text, re.MULTILINE)
    return LoadReport(
        requests=int(requests[1]),
        requests_per_second=float(rate[1]),
        p50_seconds=float(p50[1]) * _SECONDS[p50[2]],
        p99_seconds=float(p99[1]) * _SECONDS[p99[2]],
        bad_statuses=int(statuses[1]) if statuses else 0,
        connect_errors=connect,
        read_errors=read,
        write_errors=write,
        timeouts=timeout,
    )
