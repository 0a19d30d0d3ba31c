"""The catalogue: its rows are sound, docs/troubleshooting.md has it, and both Nginx's recorded lines are known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.explain.catalogue import CATALOGUE, entry_of_message, entry_of_status
from uwsgibridge.explain.causes import CAUSES, LISTENING
from uwsgibridge.explain.lines import parse_line
from uwsgibridge.explain.reference import put_into

DOCS = Path(__file__).parents[2] / "docs"
# What each Nginx has said of failures that were produced (integration/explaining), and the entry for it.
RECORDED = [
    (path.stem, *line.split("\t"))
    for path in sorted((Path(__file__).parent / "recorded").glob("*.log"))
    for line in path.read_text("utf-8").splitlines()
]


@pytest.mark.parametrize(
    ("version", "name", "text"), RECORDED, ids=[f"{it[0]}-{it[1]}" for it in RECORDED]
)
def test_a_recorded_line_is_known(version: str, name: str, text: str) -> None:
    line = parse_line(text)
    assert line is not None
    assert line.method in {"GET", "POST"}
    assert line.stamp.startswith("2026/11/29 ")
    entry = entry_of_message(line.message)
    assert entry is not None
    assert entry.name == name


def test_both_versions_are_recorded() -> None:
    assert {it[0] for it in RECORDED} == {"nginx-1.22.1", "nginx-1.31.3"}
    assert len({it[1] for it in RECORDED}) >= 40


def test_names_are_told_apart() -> None:
    names = [it.name for it in CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]+", it) for it in names)


def test_each_cause_is_an_event_that_docs_have() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (DOCS / "logs.md").read_text("utf-8"), re.MULTILINE)
    events = {*CAUSES, LISTENING} - {"access"}  # of the access log, which has a section
    assert events <= set(rows)


def test_each_entry_has_causes_that_are_known_and_each_cause_an_entry() -> None:
    named = {it for entry in CATALOGUE for it in entry.causes}
    assert named == set(CAUSES)


def test_options_that_are_named_exist() -> None:
    texts = [f"{it.happened} {it.why} {it.change}" for it in CATALOGUE]
    texts += [f"{it.why} {it.change}" for it in CAUSES.values()]
    named = {it for text in texts for it in re.findall(r"(?<!\S)`?(--[a-z-]+)", text)}
    assert named
    assert named <= {option_name(it) for it in OPTIONS}


def test_the_page_has_the_catalogue() -> None:
    """`python -m uwsgibridge.explain.reference docs/troubleshooting.md` writes it anew."""
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    assert put_into(page) == page


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the line"):
        put_into("# A page\n")


def test_a_client_can_not_choose_the_entry() -> None:
    message = 'client sent invalid header line: "X_A: upstream sent too big header" while reading'
    entry = entry_of_message(message)
    assert entry is not None
    assert entry.name == "header-dropped"


def test_what_is_no_failure_has_no_entry() -> None:
    assert entry_of_message("signal 15 (SIGTERM) received from 1, exiting") is None
    assert entry_of_status("200") is None
    assert entry_of_status("404") is None


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("connect() failed (61: Connection refused) while connecting to upstream", "connection-refused"),
        ("upstream timed out (60: Operation timed out) while reading upstream", "reading-timed-out"),
        ("kevent() reported that client prematurely closed connection, so upstream connection is closed too", "client-left"),
        ("writev() failed (32: Broken pipe) while sending request to upstream", "reset-before-answer"),
        ('pwrite() "/var/lib/nginx/uwsgi/1" failed (28: No space left on device) while reading upstream', "temporary-file-failed"),
        ("peer closed connection in SSL handshake while SSL handshaking to upstream", "tls-failed"),
        ('limiting connections by zone "addr"', "rate-limited"),
    ],
)  # fmt: skip
def test_other_systems_and_calls(message: str, name: str) -> None:
    """Numbers of BSD and macOS, and calls that depend on timing, in the words of nginx's source."""
    entry = entry_of_message(message)
    assert entry is not None
    assert entry.name == name
