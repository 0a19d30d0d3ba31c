"""What wrk prints is read right: the figures, their units, and every kind of error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.load import Request, drive, find_wrk, parse_report

if TYPE_CHECKING:
    from pathlib import Path

CLEAN = """\
Running 2s test @ http://127.0.0.1:33327/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.95ms    1.20ms  12.89ms   68.79%
    Req/Sec    20.92k     4.61k   29.20k    70.00%
  Latency Distribution
     50%    2.79ms
     75%    3.80ms
     90%    4.38ms
     99%    6.41ms
  41669 requests in 2.00s, 6.36MB read
Requests/sec:  20803.42
Transfer/sec:      3.17MB
"""

FLAWED = CLEAN.replace(
    "Requests/sec:",
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
    "  Non-2xx or 3xx responses: 50000\n"
    "Requests/sec:",
)


def test_a_clean_report_gives_the_figures_and_no_errors() -> None:
    report = parse_report(CLEAN)
    assert report.requests == 41669
    assert report.requests_per_second == 20803.42
    assert report.p50_seconds == pytest.approx(0.00279)
    assert report.p99_seconds == pytest.approx(0.00641)
    assert report.errors == 0


def test_errors_of_each_kind_are_counted() -> None:
    report = parse_report(FLAWED)
    assert (report.connect_errors, report.read_errors, report.write_errors) == (1, 20, 300)
    assert (report.timeouts, report.bad_statuses) == (4000, 50000)
    assert report.errors == 54321


@pytest.mark.parametrize("line", FLAWED.splitlines()[-4:-2])
def test_one_kind_of_error_alone_is_counted(line: str) -> None:
    assert parse_report(CLEAN.replace("Requests/sec:", f"{line}\nRequests/sec:")).errors > 0


@pytest.mark.parametrize(
    ("printed", "seconds"),
    [("730.00us", 0.00073), ("6.41ms", 0.00641), ("1.25s", 1.25), ("1.50m", 90.0)],
)
def test_the_unit_of_p99_is_heeded(printed: str, seconds: float) -> None:
    report = parse_report(CLEAN.replace("99%    6.41ms", f"99%  {printed}"))
    assert report.p99_seconds == pytest.approx(seconds)


@pytest.mark.parametrize("missing", ["50%", "99%", "requests in", "Requests/sec"])
def test_what_is_no_report_of_wrk_is_shown_in_the_error(missing: str) -> None:
    text = "\n".join(line for line in CLEAN.splitlines() if missing not in line)
    with pytest.raises(BenchmarkError, match="can't be read") as caught:
        parse_report(text)
    assert "1 threads and 64 connections" in str(caught.value)


def test_where_wrk_is_missing_its_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError, match="apt-get install wrk"):
        find_wrk()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request("/json"), ["http://127.0.0.1:80/json"]),
        (
            Request("/", (("A", "1"), ("B", "2"))),
            ["--header", "A: 1", "--header", "B: 2", "http://127.0.0.1:80/"],
        ),
        (Request("/up", upload_bytes=5), ["http://127.0.0.1:80/up", "--", "5"]),
    ],
)
def test_a_request_is_told_to_wrk(request_: Request, said: list[str], directory: Path) -> None:
    wrk = directory / "wrk"
    arguments = directory / "arguments"
    wrk.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        f"pathlib.Path({str(arguments)!r}).write_text('\\n'.join(sys.argv))\n"
        f"print({CLEAN!r})\n"
    )
    wrk.chmod(0o755)
    report = drive(str(wrk), request_, port=80, host="server", connections=8, seconds=1)
    assert report.requests == 41669
    given = arguments.read_text().splitlines()
    assert given[-len(said) :] == said
    assert ("--script" in given) == bool(request_.upload_bytes)
    assert "Host: server" in given
