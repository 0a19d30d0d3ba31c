"""Reads configurations of uWSGI for tests, and gives what is asserted of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from uwsgibridge.migration.plan import Verdict
from uwsgibridge.migration.uwsgi.reading import Reading, read_configuration


def write(directory: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (directory / name).write_bytes(data)


def read(
    directory: Path,
    text: str | bytes = "",
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    **files: str | bytes,
) -> Reading:
    """Read one ini with what it needs beside it; underscores in names of files are dots."""
    body = text if isinstance(text, bytes) else f"[uwsgi]\n{text}"
    write(
        directory,
        {"a.ini": body} | {it.replace("_", "."): content for it, content in files.items()},
    )
    return read_configuration(arguments or ("--ini", "a.ini"), environ or {}, str(directory))


def pairs(reading: Reading) -> list[tuple[str, str | None]]:
    return [
        (it.name, it.value)
        for it in reading.settings
        if it.name not in {"ini", "xml", "yaml", "json"}
    ]


def said(reading: Reading, *verdicts: Verdict) -> list[str]:
    wanted = verdicts or (Verdict.WARNED, Verdict.REFUSED)
    return [f"{it.setting.place}: {it.text}" for it in reading.findings if it.verdict in wanted]
