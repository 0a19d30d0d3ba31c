"""Records what the real uWSGI answers: ``python -m tests.migration.uwsgi.corpus.record PROGRAM [NAME ...]``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.migration.uwsgi.corpus.cases import HERE, all_cases
from tests.migration.uwsgi.corpus.serving import Site, ask_uwsgi

RECORD: Final = HERE / "recorded.json"


def main(program: str, *names: str) -> None:
    """Ask for all configurations, or for those that are named, and write the record."""
    recorded: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for case in all_cases():
        if not case.has_socket or (names and case.name not in names):
            continue
        with tempfile.TemporaryDirectory() as directory:
            site = Site(case, Path(directory))
            recorded[case.name] = ask_uwsgi(site, program)
            print(case.name, recorded[case.name].get("sockets", recorded[case.name]))  # noqa: T201
    RECORD.write_text(json.dumps(recorded, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
