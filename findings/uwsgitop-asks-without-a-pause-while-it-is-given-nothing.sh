#!/usr/bin/env bash
# uwsgitop 0.12, CPython 3.11.7: where the statistics are no JSON, it asks again at once, and its --frequency does not count.
#
# A server that restarts, or that has an error, closes connections without an answer. uwsgitop, which is to ask each second, then connects as
# fast as it can: hundreds of times a second, with all of one CPU, to a server that has trouble already. The screen stays empty,
# and the key q does not end it, since keys are read after an answer alone. One would have expected the pause of --frequency in
# between, and a word on the screen.
#
# Output seen:
#   within 3 s of --frequency 1: over 100 connections
#   q has ended it: no
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'uwsgitop==0.12'

cat > watch.py <<'PYTHON'
import os
import pty
import select
import socket
import subprocess
import time

with socket.socket(socket.AF_UNIX) as server:
    server.bind("stats")
    server.listen()
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        ["venv/bin/uwsgitop", "--frequency", "1", "stats"],
        stdin=its_end, stdout=its_end, stderr=its_end, env={**os.environ, "TERM": "xterm"},
    )
    os.close(its_end)
    server.settimeout(30)
    connections, end = 0, None
    while end is None or time.monotonic() < end:
        server.accept()[0].close()
        connections += 1
        if end is None:  # the first one, after the start
            end = time.monotonic() + 3
            os.write(terminal, b"q")
        while select.select([terminal], [], [], 0)[0]:
            os.read(terminal, 65536)
    print("within 3 s of --frequency 1:", "over 100" if connections > 100 else connections, "connections")
    print("q has ended it:", "no" if process.poll() is None else "yes")
    process.kill()
    process.wait()
    os.close(terminal)
PYTHON

python3 watch.py > seen

cat > expected <<'TEXT'
within 3 s of --frequency 1: over 100 connections
q has ended it: no
TEXT
cat seen
diff expected seen
