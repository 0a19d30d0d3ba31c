#!/usr/bin/env bash
# python-dotenv 1.2.4 and Docker's command line 28.2.2: one file of variables, another password for each of its readers.
#
# `docker run --env-file` takes what stands behind = as it is, quotes and all. python-dotenv, which applications and other servers read
# such files with, ends a value at a blank and #, replaces ${NAME}, and removes quotes. Nobody warns: a password with # in it is cut
# short, and only where it is read by the second one. systemd's EnvironmentFile= is a third reading: it removes quotes and backslashes, and
# keeps # and $ (parse_env_file_internal in src/basic/env-file.c); it is not run here. A line without quotes, backslashes, blanks at the ends of
# the value, " #" and ${ is the same for all three.
#
# Docker's command line sends what it has read to its engine, in whose place a few lines of Python answer here.
#
# Output seen (without Docker's command line, its lines are missing):
#   dotenv  PASSWORD=correct QUOTED=in quotes HOME_OF_APP=/root/app PLAIN=a=b#c
#   docker  PASSWORD=correct #horse QUOTED="in quotes" HOME_OF_APP=${HOME}/app PLAIN=a=b#c
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'python-dotenv==1.2.4'
export HOME=/root

cat > app.env <<'FILE'
PASSWORD=correct #horse
QUOTED="in quotes"
HOME_OF_APP=${HOME}/app
PLAIN=a=b#c
FILE

cat > engine.py <<'PYTHON'
"""Takes one container from Docker's command line, and prints the variables that it is to have."""

import http.server
import json
import socketserver
import threading


class Engine(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "docker"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.43")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_HEAD(self):
        self.answer(200, "")

    do_GET = do_HEAD

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print("docker ", *body["Env"], flush=True)
        self.answer(201, {"Id": "0" * 64, "Warnings": []})
        threading.Thread(target=self.server.shutdown).start()


with socketserver.ThreadingUnixStreamServer("engine.sock", Engine) as server:
    threading.Timer(20, server.shutdown).start()
    server.daemon_threads = True
    server.serve_forever(0.05)
    import os

    os._exit(0)
PYTHON

venv/bin/python - > seen <<'PYTHON'
from dotenv import dotenv_values

print("dotenv ", *(f"{name}={value}" for name, value in dotenv_values("app.env").items()))
PYTHON
expected='dotenv  PASSWORD=correct QUOTED=in quotes HOME_OF_APP=/root/app PLAIN=a=b#c'
if command -v docker > no-output; then
    venv/bin/python engine.py >> seen &
    engine=$!
    timeout 10 bash -c 'until [ -S engine.sock ]; do :; done'
    DOCKER_HOST=unix://$work/engine.sock timeout 20 docker create --env-file app.env --pull never image > no-output
    wait "$engine"
    expected+=$'\ndocker  PASSWORD=correct #horse QUOTED="in quotes" HOME_OF_APP=${HOME}/app PLAIN=a=b#c'
fi
cat seen
[ "$(cat seen)" = "$expected" ]
