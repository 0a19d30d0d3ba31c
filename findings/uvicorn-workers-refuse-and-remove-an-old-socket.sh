#!/usr/bin/env bash
# uvicorn 0.54.0, CPython 3.11.7: with --workers 2 it refuses a unix socket that is there, and removes it all the same.
#
# With one process, uvicorn leaves the file of its --uds behind when it is stopped, and takes the place of such a file at
# its next start. With several workers the same file is "Address already in use" and exit status 3. What has failed then
# removes the file, so that the start after it works: a service starts at every second try. The file is also removed
# where another uvicorn listens on it, which goes on and can't be reached any more. One would have expected that both forms
# treat an old file alike, and that a start that fails leaves what is not its own.
#
# Output seen:
#   one process, stopped: the socket is there
#   one process, started where it lies: serves
#   2 workers, started where it lies: exit status 3, the socket is gone
#   2 workers, started again: serves
#   2 workers, started where another one serves: exit status 3, the socket is gone
set -euo pipefail
work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'uvicorn==0.54.0'

cat > app.py <<'PYTHON'
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
PYTHON

cat > ask.py <<'PYTHON'
import socket
import time

deadline = time.monotonic() + 30
while True:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        try:
            client.connect("socket")
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            if client.recv(65536).startswith(b"HTTP/1.1 200"):
                break
        except OSError:
            pass
    if time.monotonic() > deadline:
        raise SystemExit("nobody serves")
    time.sleep(0.05)
PYTHON

start() {
    venv/bin/uvicorn app:app --lifespan off --uds socket --workers "$1" >>log 2>&1 &
    pid=$!
    started+=("$pid")
}

stop() {
    kill "$pid"
    wait "$pid" || true
}

socket_is() { if [ -e socket ]; then echo there; else echo gone; fi; }

status_of_start() {
    start "$1"
    status=0
    wait "$pid" || status=$?
    echo "exit status $status, the socket is $(socket_is)"
}

{
    start 1; python3 ask.py; stop
    echo "one process, stopped: the socket is $(socket_is)"
    start 1; python3 ask.py; stop
    echo "one process, started where it lies: serves"
    echo "2 workers, started where it lies: $(status_of_start 2)"
    start 2; python3 ask.py; stop
    echo "2 workers, started again: serves"
    rm -f socket
    start 1; python3 ask.py
    echo "2 workers, started where another one serves: $(status_of_start 2)"
} > seen

cat > expected <<'TEXT'
one process, stopped: the socket is there
one process, started where it lies: serves
2 workers, started where it lies: exit status 3, the socket is gone
2 workers, started again: serves
2 workers, started where another one serves: exit status 3, the socket is gone
TEXT
cat seen
diff expected seen
