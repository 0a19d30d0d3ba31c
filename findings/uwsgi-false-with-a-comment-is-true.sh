#!/usr/bin/env bash
# uWSGI 2.0.31: "false # no" is true, and so is every value of a flag that is not exactly false, off, no or 0.
#
# An ini file of uWSGI has comments on lines of their own alone; what stands behind a value belongs to it. A number survives that,
# since it is read by atoi(3), which is why people go on writing such comments. A flag does not: uWSGI compares the whole value with
# false, off, no and 0, and takes everything else for true, also "none", "disabled", "n" and an empty value. So a line that says in
# words that something is off switches it on. One would have expected an error, or what the line says.
#
# Output seen:
#   vacuum = false       the socket stays
#   vacuum = false # no  the socket is removed
#   vacuum = none        the socket is removed
#   vacuum = disabled    the socket is removed
#   vacuum =             the socket is removed
#   processes = 2 # two  2 workers
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --no-binary uwsgi 'uwsgi==2.0.31'

cat > app.py <<'PYTHON'
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
PYTHON
cat > run.py <<'PYTHON'
"""Start uWSGI with one more line, stop it when it serves, and print how many workers there were."""
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

with open("app.ini", "w") as file:
    file.write("[uwsgi]\nsocket = app.sock\nmodule = app\nmaster = 1\n" + sys.argv[1] + "\n")
process = subprocess.Popen(["venv/bin/uwsgi", "--ini", "app.ini"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                           start_new_session=True)
killer = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
killer.start()
spawned = 0
for line in process.stderr:
    spawned += line.startswith("spawned uWSGI worker")
    if spawned == int(sys.argv[2]):
        break
threading.Thread(target=process.stderr.read).start()

pairs = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), ("SERVER_NAME", "site"), ("SERVER_PORT", "80"),
         ("SERVER_PROTOCOL", "HTTP/1.1"), ("REQUEST_URI", "/"), ("QUERY_STRING", "")]
body = b"".join(struct.pack("<H", len(it)) + it.encode() for pair in pairs for it in pair)
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(30)
    client.connect("app.sock")
    client.sendall(struct.pack("<BHB", 0, len(body), 0) + body)
    if not b"".join(iter(lambda: client.recv(65536), b"")).endswith(b"served"):
        raise SystemExit("nobody serves")
# A worker that is just starting may miss the signal, and only one worker has surely started: it has answered.
if spawned == 1:
    process.send_signal(signal.SIGINT)
else:
    os.killpg(process.pid, signal.SIGKILL)
process.wait()
killer.cancel()
print(spawned)
PYTHON

of_the_socket() {
    rm -f app.sock
    [ "$(python3 run.py "$1" 1)" = 1 ]
    if [ -e app.sock ]; then state="stays"; else state="is removed"; fi
    printf '%-20s the socket %s\n' "$1" "$state"
}

{
    for line in 'vacuum = false' 'vacuum = false # no' 'vacuum = none' 'vacuum = disabled' 'vacuum ='; do
        of_the_socket "$line"
    done
    printf '%-20s %s workers\n' 'processes = 2 # two' "$(python3 run.py 'processes = 2 # two' 2)"
} > seen

cat > expected <<'TEXT'
vacuum = false       the socket stays
vacuum = false # no  the socket is removed
vacuum = none        the socket is removed
vacuum = disabled    the socket is removed
vacuum =             the socket is removed
processes = 2 # two  2 workers
TEXT
cat seen
diff expected seen
