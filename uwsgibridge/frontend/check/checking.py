"""Checks a configuration: reads it, and asks each rule."""

from __future__ import annotations

import importlib
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from uwsgibridge.frontend.check.files import Disk, Dump, Files, Loader, find_prefix
from uwsgibridge.frontend.check.finding import RULES, Bridge, Case, Finding, Severity, Version
from uwsgibridge.frontend.check.reading import ReadingError
from uwsgibridge.frontend.check.tree import Tree, grow

_GROUNDS: Final = (
    "params",
    "identity",
    "limits",
    "streams",
    "upstreams",
    "caching",
    "serving",
    "versions",
)

SYNTAX: Final = "syntax"
SYNTAX_MEANS: Final = "The text is no configuration of Nginx; nothing else of the file was judged."


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one file.

    Attributes:
        file: as it was given.
        findings: in the order of files and lines.
        ways: how many ways lead to an application.
        files: all files that were read.
        tree: what the text says; None where it is no configuration.
    """

    file: str
    findings: tuple[Finding, ...]
    ways: int
    files: tuple[str, ...]
    tree: Tree | None = None


def load_rules() -> None:
    """Have all rules in the table."""
    for ground in _GROUNDS:
        importlib.import_module(f"uwsgibridge.frontend.check.rules.{ground}")


def check(
    file: str,
    text: str | None = None,
    *,
    bridge: Bridge | None = None,
    version: Version | None = None,
    prefix: str | None = None,
) -> Result:
    """Check a file with all that it includes.

    Args:
        file: its path; or a name for `text`.
        text: what the file says; read from the file where it is left out. What ``nginx -T`` prints is
            taken for all the files that it has.
        bridge: its options in force; the defaults where they are left out.
        version: Nginx's.
        prefix: the directory that relative includes are below; found by the file where it is left out.

    Raises:
        OSError: the file can't be read.
    """
    load_rules()
    files: Files = Disk()
    if text is None:
        text = files.read(file)
        prefix = prefix or find_prefix(file)
    name = file
    if Dump.is_one(text):
        files = dump = Dump(text)
        name, text = dump.main, dump.read(dump.main)
        prefix = str(PurePosixPath(name).parent)
    loader = Loader(files, prefix or str(Path.cwd()))
    try:
        tree = grow(loader.load(text, name))
    except ReadingError as error:
        finding = Finding(
            SYNTAX,
            Severity.ERROR,
            error.file,
            error.line,
            error.reason,
            "nginx -t  # says it as well",
        )
        return Result(file, (finding,), 0, tuple(loader.read_files))
    is_here = isinstance(files, Disk)
    case = Case(
        tree,
        bridge or Bridge(),
        version,
        tuple(loader.missing),
        _socket_mode_of if is_here else lambda _path: None,
    )
    ways = {(id(way.uwsgi_pass), way.level) for way in tree.ways}
    read = tuple(dict.fromkeys(loader.read_files))
    return Result(file, judge(case), len(ways), read, tree)


def judge(case: Case) -> tuple[Finding, ...]:
    """Ask all rules about a case."""
    findings = {
        Finding(rule.name, rule.severity, found.at.file, found.at.line, found.reason, found.write)
        for rule in RULES.values()
        for found in rule.find(case)
    }
    return tuple(sorted(findings, key=lambda it: (it.file, it.line, it.rule, it.reason)))


def _socket_mode_of(path: str) -> int | None:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return stat.S_IMODE(found.st_mode) if stat.S_ISSOCK(found.st_mode) else None
