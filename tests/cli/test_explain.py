"""``uwsgibridge explain``: what it reads, its words, its exit status."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from uwsgibridge.cli import main

BIG_HEAD = "upstream sent too big header while reading response header from upstream"
LINE = (
    f"2026/11/29 17:22:40 [error] 1#1: *1 {BIG_HEAD}, client: 127.0.0.1, server: , "
    'request: "GET /report?x=1 HTTP/1.1", upstream: "uwsgi://unix:/run/app.sock:", host: "x"'
)
UNKNOWN = "2026/11/29 17:22:40 [error] 1#1: *1 the moon is full"
HEAD_EVENT = {
    "event": "head of the answer is larger than Nginx's buffer: it answers 502",
    "method": "GET",
    "path": "/report",
    "largest_header": "Set-Cookie",
    "timestamp": "2026-11-29T17:22:40.1Z",
}


def run(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["explain", "--timezone", "UTC", *arguments], input=given)


@pytest.mark.parametrize("line", [LINE, BIG_HEAD, f"*12 {BIG_HEAD}"])
def test_a_line_as_an_argument(line: str) -> None:
    done = run(line)
    assert done.exit_code == 0
    assert f"{BIG_HEAD} [head-too-big]" in done.output
    assert "client   502" in done.output
    assert "--frontend-buffer-bytes" in done.output
    assert done.output.endswith(
        "1 line explained, 0 not known, 0 passed over that tell of no failure.\n"
    )


def test_files_and_standard_input(tmp_path: Path) -> None:
    plain, packed = tmp_path / "error.log", tmp_path / "error.log.2.gz"
    plain.write_text(f"{LINE}\n{LINE}\n")
    packed.write_bytes(gzip.compress(LINE.encode()))
    done = run(str(plain), str(packed), "-", given=f"{LINE}\r\n".encode())
    assert done.exit_code == 0
    assert f"4 x {BIG_HEAD}" in done.output
    assert "GET /report (4)" in done.output
    assert run(given=LINE.encode()).exit_code == 0


def test_the_cause_in_our_log(tmp_path: Path) -> None:
    (tmp_path / "bridge.log").write_text(f"listening soon\n{json.dumps(HEAD_EVENT)}\n")
    done = run(LINE, "--log", str(tmp_path / "bridge.log"))
    assert "largest_header: Set-Cookie" in done.output
    assert "raise uwsgi_buffer_size" in done.output
    done = run(LINE, "--log", str(tmp_path / "bridge.log"), "--format", "json")
    [case] = json.loads(done.output)["cases"]
    assert (case["name"], case["lines"], case["first"]) == (
        "head-too-big",
        1,
        "2026-11-29T17:22:40Z",
    )
    [cause] = case["causes"]
    assert cause["event"] == HEAD_EVENT["event"]
    assert cause["fields"] == {"largest_header": "Set-Cookie"}


def test_how_long_requests_took() -> None:
    line = (
        '::1 [2026-11-29T17:22:40+00:00] "GET /a HTTP/1.1" 499 0 "-" "-" {} unix:/run/a.sock - 1.5'
    )
    done = run(*(line.format(it) for it in ("1.500", "29.002", "0.100")))
    assert "3 x 499 in the access log [access-499]" in done.output
    assert "took     up to 29.002 s" in done.output


def test_what_is_not_known_is_a_status_of_1() -> None:
    done = run(UNKNOWN)
    assert done.exit_code == 1
    assert "NOT KNOWN: the moon is full" in done.output
    assert run("--format", "json", UNKNOWN).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/no/such/file"], "/no/such/file can't be read: No such file"),
        (["error.logg"], "error.logg can't be read"),
        ([LINE, "--log", "/no/such/file"], "/no/such/file can't be read"),
        ([LINE, "--log", "/dev/null"], "--log-format json"),
        (["-", "-"], "standard input"),
        ([LINE, "--timezone", "Mars/Olympus"], "Mars/Olympus"),
        ([LINE, "--timezone", "../../etc/passwd"], "no such time zone"),
        ([LINE, "--within-seconds", "soon"], "soon"),
        (["/"], "/ can't be read: Is a directory"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.output


def test_a_packed_file_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "error.log.gz"
    path.write_bytes(gzip.compress(LINE.encode() * 100)[:-20])
    assert run(str(path)).exit_code == 2
    path.write_bytes(gzip.compress(LINE.encode() * 100)[:12] + b"\xff" * 100)
    assert run(str(path)).exit_code == 2
    path.write_bytes(b"no gzip")
    assert run(str(path)).exit_code == 2


def test_hostile_bytes(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    evil = LINE.replace("/report?x=1", "/\x1b[31m\x07").encode()
    path.write_bytes(evil + b"\n\xff\xfe\0\n" + b"x" * 1_000_000 + b"\n" + LINE.encode())
    done = run(str(path))
    assert done.exit_code == 0
    assert "2 lines explained, 0 not known, 2 passed over" in done.output
    assert "\x1b" not in done.output
    assert "\\x1b[31m" in done.output
