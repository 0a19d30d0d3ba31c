"""Datasette: a database that is published, and a table that takes long to download."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from datasette.app import Datasette

_DATABASE = Path(os.environ["APPLICATION_DIRECTORY"], "animals.db")


def _fill() -> None:
    with sqlite3.connect(_DATABASE) as connection:
        connection.execute("create table if not exists animals (name text primary key, legs int)")
        connection.executemany(
            "insert or replace into animals values (?, ?)",
            [("spider", 8), ("ant", 6), ("cat", 4), *((f"animal {it}", it) for it in range(2000))],
        )
        # More rows than all buffers on the way to a client hold.
        connection.execute("create table if not exists notes (id integer primary key, text text)")
        connection.executemany(
            "insert or replace into notes values (?, ?)",
            ((it, "of a note " * 400) for it in range(10_000)),
        )
    connection.close()


_fill()
app = Datasette(
    [str(_DATABASE)],
    settings={"max_csv_mb": 0},
).app()
