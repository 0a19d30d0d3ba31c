"""What somebody sees at the terminal of ``uwsgibridge dev``: a line for each request, in colours."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

PATIENCE_SECONDS = 60.0

APP = """
def application(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        raise ValueError("of the application")
    status = environ["PATH_INFO"].strip("/") or "200"
    print("a note", file=environ["wsgi.errors"])
    start_response(f"{status} X", [("Content-Type", "text/plain")])
    return [b"fine" * 500]
"""


class Terminal:
    """What a process has printed at its terminal, or into a pipe."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._text = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait(self, pattern: str) -> re.Match[str]:
        with self._changed:
            assert self._changed.wait_for(
                lambda: re.search(pattern, self._text), PATIENCE_SECONDS
            ), self._text
            found = re.search(pattern, self._text)
            assert found
            return found

    def text(self) -> str:
        self._thread.join(PATIENCE_SECONDS)
        return self._text

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._reader, 65_536)
            except OSError:  # a terminal whose last process has ended
                piece = b""
            with self._changed:
                self._text += piece.decode().replace("\r\n", "\n")
                self._changed.notify_all()
            if not piece:
                os.close(self._reader)
                return


@contextmanager
def dev(directory: Path, *arguments: str, at_terminal: bool) -> Iterator[Terminal]:
    (directory / "site_of_test.py").write_text(APP)
    reader, writer = pty.openpty() if at_terminal else os.pipe()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uwsgibridge", "dev", "site_of_test:application"),
            *("--port", "0", "--no-reload", *arguments),
        ],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    os.close(writer)
    terminal = Terminal(reader)
    try:
        yield terminal
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        terminal.text()


def get(terminal: Terminal, path: str) -> None:
    url = terminal.wait(r"(http://127\.0\.0\.1:\d+)/ is up")[1]
    with requests.Session() as session:
        session.trust_env = False
        session.get(url + path, timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("path", "status", "color"),
    [("/", 200, 32), ("/304", 304, 36), ("/404", 404, 33), ("/fails", 500, 31)],
)
def test_each_request_is_a_short_line_in_colour(
    path: str, status: int, color: int, tmp_path: Path
) -> None:
    with dev(tmp_path, at_terminal=True) as terminal:
        get(terminal, f"{path}?token=secret")
        line = terminal.wait(rf".*\x1b\[{color}m{status}\x1b\[0m.*\n")[0]
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d \x1b\[{color}m{status}\x1b\[0m GET    {path} \d+ ms [\d.]+ k?B\n", line
    ), line
    assert "secret" not in terminal.text()


def test_without_a_terminal_there_are_no_colours(tmp_path: Path) -> None:
    with dev(tmp_path, at_terminal=False) as terminal:
        get(terminal, "/404")
        terminal.wait(r"\n\d\d:\d\d:\d\d 404 GET    /404 \d+ ms 2.0 kB\n")
    assert "\x1b[" not in terminal.text()


def test_it_can_be_left_out_or_have_another_form(tmp_path: Path) -> None:
    with dev(tmp_path, "--no-access-log", at_terminal=True) as terminal:
        get(terminal, "/404")
    assert "GET" not in terminal.text()
    with dev(tmp_path, "--access-log-format", "combined", at_terminal=True) as terminal:
        get(terminal, "/404")
        terminal.wait(r'"GET /404 HTTP/1.1" 404 2000 ')


def test_what_the_application_says_is_there_as_it_is(tmp_path: Path) -> None:
    with dev(tmp_path, at_terminal=True) as terminal:
        get(terminal, "/")
        get(terminal, "/fails")
        terminal.wait(r" 500")
    text = re.sub(r"\x1b\[\d*m", "", terminal.text())
    assert re.search(r"\[error +\] application wrote to wsgi.errors .*\na note\n", text), text
    assert re.search(
        r"\[error +\] application failed .*detail='ValueError: of the application'", text
    )
    assert "\nTraceback (most recent call last):\n" in text
    assert "\nValueError: of the application\n" in text
    assert re.search(r"\[info +\] worker started +.*site_of_test:application \(wsgi\)", text)
    assert re.search(r"\[info +\] started +.*version=", text)
