#!/usr/bin/env bash
# uWSGI 2.0.31: numbers have no units and no words, and what is no number is 0, without a word at the start.
#
# Every number is read by atoi(3), which stops at the first letter. buffer-size = 32k, in the hope of room for large cookies, is a
# buffer of 32 bytes: each request is dropped, and Nginx answers with 502. processes = auto, as Nginx has it for worker_processes, is
# no process at all: the master starts, says nothing, and holds a socket that nobody accepts from. listen = 1k is a backlog of one. One would have
# expected an error that names the line. (32768, %k for one process for each processor, and 1024 are what was meant.)
#
# Output seen:
#   buffer-size = 32768  answered with 200
#   buffer-size = 32k    closed without an answer
#   processes = auto     accepted by nobody
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --no-binary uwsgi 'uwsgi==2.0.31'

cat > app.py <<'PYTHON'
def application(environ, start_response):
    start_response("200 OK", [])
    return [b""]
PYTHON
cat > run.py <<'PYTHON'
"""Start uWSGI with one more line, and ask it for one page."""
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
next(line for line in process.stderr if line.startswith("spawned uWSGI master"))
if "auto" not in sys.argv[1]:
    next(line for line in process.stderr if line.startswith("spawned uWSGI worker"))

pairs = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), ("SERVER_NAME", "site"), ("SERVER_PORT", "80"),
         ("SERVER_PROTOCOL", "HTTP/1.1"), ("REQUEST_URI", "/"), ("QUERY_STRING", "")]
body = b"".join(struct.pack("<H", len(it)) + it.encode() for pair in pairs for it in pair)
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(3)
    client.connect("app.sock")
    client.sendall(struct.pack("<BHB", 0, len(body), 0) + body)
    try:
        answer = client.recv(65536)
        told = f"answered with {answer.split()[1].decode()}" if answer else "closed without an answer"
    except ConnectionResetError:
        told = "closed without an answer"
    except TimeoutError:
        told = "accepted by nobody"
process.send_signal(signal.SIGINT)
threading.Thread(target=process.stderr.read).start()
process.wait()
killer.cancel()
print(f"{sys.argv[1]:20} {told}")
PYTHON

{
    python3 run.py 'buffer-size = 32768'
    python3 run.py 'buffer-size = 32k'
    python3 run.py 'processes = auto'
} > seen

cat > expected <<'TEXT'
buffer-size = 32768  answered with 200
buffer-size = 32k    closed without an answer
processes = auto     accepted by nobody
TEXT
cat seen
diff expected seen
