#!/usr/bin/env bash
# uWSGI 2.0.30 (pyuwsgi 2.0.30.post1; the code of 2.0.31 is the same) takes the URL of static-map for the beginning of any path.
#
# `static-map = /static=files` is read by everybody as "below /static/". It is compared letter by letter: /staticpage.txt, which the
# application has a route for, is looked for as files/page.txt, and where that is, the application is never asked. A mount is compared
# by whole elements of the path.
# (Write the URL with a slash at its end, or let a location of Nginx do it.)
#
# Output seen:
#   /static/page.txt  the file
#   /staticpage.txt   the file
#   /staticother      the application
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'pyuwsgi==2.0.30.post1'

cat > app.py <<'PYTHON'
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"the application"]
PYTHON
mkdir files
printf 'the file' > files/page.txt

cat > ask.py <<'PYTHON'
import socket, struct, sys, time

def packet(pairs):
    body = b"".join(struct.pack("<H", len(it)) + it.encode() for pair in pairs for it in pair)
    return struct.pack("<BHB", 0, len(body), 0) + body

pairs = [("REQUEST_METHOD", "GET"), ("PATH_INFO", sys.argv[1]), ("SERVER_NAME", "x"), ("SERVER_PORT", "80"),
         ("SERVER_PROTOCOL", "HTTP/1.1"), ("REQUEST_URI", sys.argv[1]), ("QUERY_STRING", "")]
deadline = time.monotonic() + 20
while True:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect("app.sock")
        break
    except OSError:
        connection.close()
        if time.monotonic() > deadline:
            raise
        time.sleep(0.05)
connection.sendall(packet(pairs))
answer = b"".join(iter(lambda: connection.recv(65536), b""))
print(answer.partition(b"\r\n\r\n")[2].decode())
PYTHON

venv/bin/pyuwsgi --socket app.sock --module app --pythonpath . --static-map /static=files --need-app --die-on-term --master > log 2>&1 &
server=$!

check() {
  seen=$(venv/bin/python ask.py "$1")
  printf '%-17s %s\n' "$1" "$seen"
  [ "$seen" = "$2" ] || { echo "changed" >&2; exit 1; }
}
check /static/page.txt 'the file'
check /staticpage.txt 'the file'
check /staticother 'the application'
