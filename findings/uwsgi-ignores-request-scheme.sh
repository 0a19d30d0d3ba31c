#!/usr/bin/env bash
# uWSGI 2.0.30 (pyuwsgi 2.0.30.post1) does not look at REQUEST_SCHEME.
#
# nginx's stock uwsgi_params send `REQUEST_SCHEME $scheme` with every request and `HTTPS $https` only over TLS. One would
# take wsgi.url_scheme for the first of them, all the more as CGI applications read it there. uWSGI takes it from
# UWSGI_SCHEME, else from HTTPS (a value that begins with "on" in any case, or with "1"), and from nothing else of the
# stock file: a site whose params have REQUEST_SCHEME alone says http over TLS; "true" and "yes" in HTTPS say http, too.
#
# Output seen:
#   REQUEST_SCHEME=https                       http
#   HTTPS=on REQUEST_SCHEME=http               https
#   HTTPS=true REQUEST_SCHEME=https            http
#   UWSGI_SCHEME=https HTTPS=off               https
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
    return [environ["wsgi.url_scheme"].encode()]
PYTHON

cat > ask.py <<'PYTHON'
import socket, struct, sys, time

def packet(pairs):
    body = b"".join(struct.pack("<H", len(it)) + it.encode() for pair in pairs for it in pair)
    return struct.pack("<BHB", 0, len(body), 0) + body

pairs = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), ("SERVER_NAME", "x"), ("SERVER_PORT", "80"),
         ("SERVER_PROTOCOL", "HTTP/1.1"), ("REQUEST_URI", "/"), ("QUERY_STRING", "")]
pairs += [tuple(it.split("=")) for it in sys.argv[1:]]
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

check() {
  local expected=$1 seen
  shift
  seen=$(venv/bin/python ask.py "$@")
  printf '%-42s %s\n' "$*" "$seen"
  [ "$seen" = "$expected" ] || { echo "changed: expected $expected" >&2; exit 1; }
}
check http REQUEST_SCHEME=https
check https HTTPS=on REQUEST_SCHEME=http
check http HTTPS=true REQUEST_SCHEME=https
check https UWSGI_SCHEME=https HTTPS=off
