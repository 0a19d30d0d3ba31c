#!/usr/bin/env bash
# uWSGI 2.0.30 (pyuwsgi 2.0.30.post1) sends a range of a static file, whatever If-Range says of the rest.
#
# A client that goes on with a download asks for the range that it lacks, and names in If-Range the state of what it has, by a date or
# an entity tag. It is to get the range where the file is still in that state, and else the whole file (RFC 9110, section 13.1.5).
# static-map with honour-range (without it, ranges are ignored) sends the range in each case: the client joins the beginning of an old
# file with the end of a new one, and nothing tells it.
# (Put the files into a location of Nginx, which looks at If-Range.)
#
# Output seen:
#   unchanged since   206
#   changed since     206
#   another tag       206
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'pyuwsgi==2.0.30.post1'

echo 'application = None' > app.py
mkdir files
printf '0123456789' > files/ten.txt
touch -d '2020-01-02 00:00:00 UTC' files/ten.txt

cat > ask.py <<'PYTHON'
import socket, struct, sys, time

def packet(pairs):
    body = b"".join(struct.pack("<H", len(it)) + it.encode() for pair in pairs for it in pair)
    return struct.pack("<BHB", 0, len(body), 0) + body

pairs = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/files/ten.txt"), ("SERVER_NAME", "x"), ("SERVER_PORT", "80"),
         ("SERVER_PROTOCOL", "HTTP/1.1"), ("REQUEST_URI", "/files/ten.txt"), ("QUERY_STRING", ""),
         ("HTTP_RANGE", "bytes=5-"), ("HTTP_IF_RANGE", sys.argv[1])]
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
print(answer.split()[1].decode())
PYTHON

venv/bin/pyuwsgi --socket app.sock --module app --pythonpath . --static-map /files=files --honour-range --die-on-term --master > log 2>&1 &
server=$!

check() {
  seen=$(venv/bin/python ask.py "$2")
  printf '%-17s %s\n' "$1" "$seen"
  [ "$seen" = "$3" ] || { echo "changed" >&2; exit 1; }
}
check 'unchanged since' 'Thu, 02 Jan 2020 00:00:00 GMT' 206
check 'changed since' 'Wed, 01 Jan 2020 00:00:00 GMT' 206
check 'another tag' '"of-another-state"' 206
