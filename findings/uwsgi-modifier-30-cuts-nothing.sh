#!/usr/bin/env bash
# uWSGI 2.0.30 (pyuwsgi 2.0.30.post1) cuts nothing for modifier1 30 where it runs on Python 3.
#
# `uwsgi_modifier1 30;` is the documented way to serve an application below a prefix: SCRIPT_NAME is to be cut off the
# front of PATH_INFO. On Python 3 the request is served, without an error or a log line, with PATH_INFO as it came: the
# application sees its prefix twice, in SCRIPT_NAME and in PATH_INFO, and url_for() makes /shop/shop/cart of /shop/cart.
# (The cut is in the code for Python 2 alone. What works is --mount /shop=app.py --manage-script-name.)
#
# Output seen:
#   modifier1 0    SCRIPT_NAME=/shop PATH_INFO=/shop/cart
#   modifier1 30   SCRIPT_NAME=/shop PATH_INFO=/shop/cart
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
    told = "SCRIPT_NAME={SCRIPT_NAME} PATH_INFO={PATH_INFO}".format(**environ)
    return [told.encode()]
PYTHON

cat > ask.py <<'PYTHON'
import socket, struct, sys, time

def packet(pairs):
    body = b"".join(struct.pack("<H", len(it)) + it.encode() for pair in pairs for it in pair)
    return struct.pack("<BHB", int(sys.argv[1]), len(body), 0) + body

pairs = [("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/shop"), ("PATH_INFO", "/shop/cart"), ("SERVER_NAME", "x"), ("SERVER_PORT", "80"),
         ("SERVER_PROTOCOL", "HTTP/1.1"), ("REQUEST_URI", "/shop/cart"), ("QUERY_STRING", "")]
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

venv/bin/pyuwsgi --socket app.sock --module app --pythonpath . --need-app --die-on-term --master > log 2>&1 &
server=$!

for modifier1 in 0 30; do
  seen=$(venv/bin/python ask.py "$modifier1")
  printf 'modifier1 %-4s %s\n' "$modifier1" "$seen"
  [ "$seen" = "SCRIPT_NAME=/shop PATH_INFO=/shop/cart" ] || { echo "changed" >&2; exit 1; }
done
