#!/usr/bin/env bash
# gunicorn 27.0.1, CPython 3.11.7: its umask is for its unix socket alone, and without it everybody can write to the socket.
#
# The setting umask is 0 by default, and the umask of the process is set aside while the socket is made. So the socket of a gunicorn
# that was started under umask 077 has mode 777: each user of the machine can send requests, with any X-Forwarded-For. The other way
# round, umask = 0o077 in the configuration does not change what files the application makes. One would have expected that the
# umask of the process holds for the socket, and that the setting holds for the process.
#
# Output seen:
#   started under umask 077: the socket has 777, a file of the application 600
#   umask = 0o077 in the configuration, started under 022: the socket has 700, a file of the application 644
set -euo pipefail
work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'gunicorn==27.0.1'

cat > app.py <<'PYTHON'
def app(environ, start_response):
    with open("made", "w"):
        pass
    start_response("200 OK", [])
    return [b"served"]
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

modes() {
    venv/bin/gunicorn app:app --bind unix:socket --no-control-socket "$@" > log 2>&1 &
    pid=$!
    started+=("$pid")
    python3 ask.py
    echo "the socket has $(stat -c %a socket), a file of the application $(stat -c %a made)"
    kill "$pid"
    wait "$pid" || true
    rm -f made
}

{
    umask 077
    echo "started under umask 077: $(modes)"
    umask 022
    echo "umask = 0o077 in the configuration, started under 022: $(modes --umask 077)"
} > seen

cat > expected <<'TEXT'
started under umask 077: the socket has 777, a file of the application 600
umask = 0o077 in the configuration, started under 022: the socket has 700, a file of the application 644
TEXT
cat seen
diff expected seen
