#!/usr/bin/env bash
# uWSGI 2.0.31: mount = /api=api loads nothing, and a callable line counts for files that are mounted.
#
# module = api means the callable "application" of api, or the one that the callable line names. A mount of the same module, without a colon,
# loads nothing: the log says "mounting api on /api", there is no error, and requests below /api go to the first application, unstripped, or get
# 500 where there is none. A mount of a file, api.py, does look at the callable line, which belongs to the module line of the same
# configuration. One would have expected the same rule for all three.
#
# Output seen:
#   mount = /api=api              /api/x: 500
#   mount = /api=api:application  /api/x: application /x
#   mount = /api=api.py           /api/x: other /x
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --no-binary uwsgi 'uwsgi==2.0.31'

cat > api.py <<'PYTHON'
def make(name):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [f"{name} {environ['PATH_INFO']}".encode()]

    return app


application, other = make("application"), make("other")
PYTHON
cat > run.py <<'PYTHON'
"""Start uWSGI with one mount, and ask it for a page below."""
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

with open("app.ini", "w") as file:
    file.write("[uwsgi]\nsocket = app.sock\nmanage-script-name = 1\ncallable = other\n" + sys.argv[1] + "\n")
process = subprocess.Popen(["venv/bin/uwsgi", "--ini", "app.ini"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                           start_new_session=True)
killer = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
killer.start()
next(line for line in process.stderr if line.startswith("spawned uWSGI worker"))
threading.Thread(target=process.stderr.read).start()

pairs = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/api/x"), ("SERVER_NAME", "site"), ("SERVER_PORT", "80"),
         ("SERVER_PROTOCOL", "HTTP/1.1"), ("REQUEST_URI", "/api/x"), ("QUERY_STRING", "")]
body = b"".join(struct.pack("<H", len(it)) + it.encode() for pair in pairs for it in pair)
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(30)
    client.connect("app.sock")
    client.sendall(struct.pack("<BHB", 0, len(body), 0) + body)
    head, _, rest = b"".join(iter(lambda: client.recv(65536), b"")).decode().partition("\r\n\r\n")
process.send_signal(signal.SIGINT)
process.wait()
killer.cancel()
status = head.split()[1]
print(f"{sys.argv[1]:29} /api/x: {rest if status == '200' else status}")
PYTHON

{
    python3 run.py 'mount = /api=api'
    python3 run.py 'mount = /api=api:application'
    python3 run.py 'mount = /api=api.py'
} > seen

cat > expected <<'TEXT'
mount = /api=api              /api/x: 500
mount = /api=api:application  /api/x: application /x
mount = /api=api.py           /api/x: other /x
TEXT
cat seen
diff expected seen
