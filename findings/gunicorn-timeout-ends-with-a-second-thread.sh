#!/usr/bin/env bash
# gunicorn 27.0.1, CPython 3.11.7: timeout limits a request with one thread, and nothing with two.
#
# timeout (30 s by default) is how long a worker may give no sign of life. The plain worker gives none while a request runs, so that it is
# a limit for requests there: the worker is ended, and the client gets a 500. --threads 2 changes the class of the worker without a
# word of --worker-class, and that one gives signs of life beside its requests: the same request runs for as long as it likes. Who
# adds threads to a service loses the limit of its requests, and is not told.
#
# Output seen:
#   timeout 3, one thread, a request of 8 s: HTTP/1.1 500 Internal Server Error
#   timeout 3, --threads 2, a request of 8 s: HTTP/1.1 200 OK
set -euo pipefail
work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'gunicorn==27.0.1'

cat > app.py <<'PYTHON'
import time

def app(environ, start_response):
    time.sleep(8)
    start_response("200 OK", [])
    return [b"served"]
PYTHON

cat > ask.py <<'PYTHON'
import socket
import time

deadline = time.monotonic() + 30
while True:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        try:
            client.connect("socket")
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit("nobody serves")
            time.sleep(0.05)
            continue
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        try:
            head = client.recv(65536).split(b"\r\n")[0].decode()
        except ConnectionError:
            head = ""
        print(head or "no answer")
        break
PYTHON

answer() {
    venv/bin/gunicorn app:app --bind unix:socket --no-control-socket --timeout 3 "$@" > log 2>&1 &
    pid=$!
    started+=("$pid")
    python3 ask.py
    kill "$pid"
    wait "$pid" || true
    rm -f socket
}

{
    echo "timeout 3, one thread, a request of 8 s: $(answer)"
    echo "timeout 3, --threads 2, a request of 8 s: $(answer --threads 2)"
} > seen

cat > expected <<'TEXT'
timeout 3, one thread, a request of 8 s: HTTP/1.1 500 Internal Server Error
timeout 3, --threads 2, a request of 8 s: HTTP/1.1 200 OK
TEXT
cat seen
diff expected seen
