"""Datasette: queries as JSON, pages, and a table as a stream of CSV."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator
from typing import ClassVar

import requests

from integration.applications.checks import Checks, downloading, new_browser
from integration.applications.site import Site

# The same number as in the application.
NOTES = 10_000
NOTE = "of a note " * 400


GONE = "the client has gone away"


class TestDatasette(Checks):
    app: ClassVar[str] = "datasette_app:app"
    needs: ClassVar[tuple[str, ...]] = ("datasette",)
    excused: ClassVar[tuple[str, ...]] = (
        # What it writes of a query that is wrong.
        r"^ERROR: conn=.*select nothing from nowhere.*\n",
        # It takes an OSError of `send` for a failure of its own, writes the text into the file that is
        # being downloaded, and tells of both; where rich is installed, with all local variables.
        rf"(?s:^╭─+ Traceback .*?)^PeerGone: {GONE}\n",
        rf"(?s:^Traceback .*?)^uwsgibridge\.[\w.]+\.PeerGone: {GONE}\n",
    )

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            page = browser.get(
                f"{site.url}/animals/animals?legs__gt=5&_sort=legs&name__startswith=sp"
            )
            assert "spider" in page.text
            self.ask(site, browser)
            table = browser.get(f"{site.url}/animals/animals.csv?_stream=on")
            rows = list(csv.DictReader(table.text.splitlines()))
            assert len(rows) == 2003
            wrong = browser.get(f"{site.url}/animals.json?sql=select+nothing+from+nowhere")
            assert wrong.status_code == 400

    def ask(self, site: Site, browser: requests.Session) -> None:
        answer = browser.get(
            f"{site.url}/animals.json",
            params={
                "sql": "select legs from animals where name = :name",
                "name": "ant",
                "_shape": "array",
            },
        )
        assert answer.json() == [{"legs": 6}]

    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        notes = sum(len(f"{number},{NOTE}\r\n") for number in range(NOTES))
        size = len("id,text\r\n") + notes
        with downloading(f"{site.url}/animals/notes.csv?_stream=on", size) as read:
            yield read
