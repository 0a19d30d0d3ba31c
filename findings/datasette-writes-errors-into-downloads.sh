#!/usr/bin/env bash
# Datasette 0.65.5: an error in the middle of a streamed CSV becomes a line of the file, and the answer ends well.
#
# The table as CSV (`?_stream=on`) is sent with status 200. What the ASGI server's `send` raises is caught by the view,
# and the text of the exception is sent as the next piece of the body. Where only one `send` failed, the client gets a
# file that is cut, with an English sentence at its end, and the end of the answer is the regular one: nothing tells
# the download from a whole one. Where the client has left, the second `send` fails as well and both tracebacks are in
# the log, for each download that somebody breaks off. The view never asks `receive` whether the client is there.
#
# Output seen:
#   status: 200
#   the last line of the file: 'one send failed'
#   rows: fewer than the table has
#   the answer ended well: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'datasette==0.65.5' 2>pip.log || { cat pip.log >&2; exit 1; }

cat > check.py <<'PYTHON'
import asyncio
import sqlite3

from datasette.app import Datasette

ROWS = 3000
with sqlite3.connect("animals.db") as connection:
    connection.execute("create table animals (name text primary key, legs int)")
    connection.executemany(
        "insert into animals values (?, ?)", [(f"animal {n:06}", n) for n in range(ROWS)]
    )
connection.close()


async def main():
    app = Datasette(["animals.db"]).app()
    started = {}
    body, pieces, over = b"", 0, False

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        nonlocal body, pieces, over
        if message["type"] == "http.response.start":
            started["status"] = message["status"]
            return
        pieces += 1
        if pieces == 200:
            raise OSError("one send failed")
        body += message.get("body", b"")
        over = not message.get("more_body", False)

    path = "/animals/animals.csv"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"_stream=on",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    lines = body.decode().splitlines()
    last = lines[-1]
    few = len(lines) < ROWS
    print("status:", started["status"])
    print("the last line of the file:", repr(last))
    print("rows:", "fewer than the table has" if few else "all")
    print("the answer ended well:", over)
    assert (started["status"], last, few, over) == (200, "one send failed", True, True)


asyncio.run(main())
PYTHON
venv/bin/python check.py 2>log || { cat log >&2; echo "changed" >&2; exit 1; }
