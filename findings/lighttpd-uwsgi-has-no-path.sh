#!/usr/bin/env bash
# lighttpd 1.4.69 (Debian 12's lighttpd 1.4.69-1): mod_scgi with scgi.protocol = "uwsgi" sends the path as SCRIPT_NAME.
#
# A handler for "/", which is to say the whole site, gets for /shop/cart the SCRIPT_NAME "/shop" and the PATH_INFO
# "/cart", and for /shop no PATH_INFO at all: an application then takes each first part of a path for the place that it
# is mounted at, and /shop is its front page, with status 200. "fix-root-scriptname" => "enable" makes it right. Besides,
# QUERY_STRING is normalised (%41 becomes A) where REQUEST_URI is as the client sent it: a signature over the query that
# was made by the client does not fit what the application reads.
#
# Output seen:
#   as it comes           /shop        SCRIPT_NAME=/shop PATH_INFO=(not sent) QUERY_STRING=x=A
#   as it comes           /shop/cart   SCRIPT_NAME=/shop PATH_INFO=/cart QUERY_STRING=x=A
#   fix-root-scriptname   /shop        SCRIPT_NAME= PATH_INFO=/shop QUERY_STRING=x=A
#   fix-root-scriptname   /shop/cart   SCRIPT_NAME= PATH_INFO=/shop/cart QUERY_STRING=x=A
set -euo pipefail
export PATH=$PATH:/usr/sbin
if ! command -v lighttpd > /dev/null; then
  apt-get install -qq -y --no-install-recommends lighttpd=1.4.69-1 > /dev/null
fi
version=$(lighttpd -v)
[[ $version == lighttpd/1.4.69* ]] || { echo "this is about lighttpd 1.4.69, not $version" >&2; exit 1; }
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

cat > upstream.py <<'PYTHON'
import socket

def texts(data):
    while data:
        size = int.from_bytes(data[:2], "little")
        yield data[2 : 2 + size].decode()
        data = data[2 + size :]

listener = socket.socket(socket.AF_UNIX)
listener.bind("uwsgi.sock")
listener.listen()
while True:
    connection, _ = listener.accept()
    packet = connection.recv(65536)
    every = list(texts(packet[4 : 4 + int.from_bytes(packet[1:3], "little")]))
    found = dict(zip(every[::2], every[1::2]))
    names = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")
    body = " ".join(f"{name}={found.get(name, '(not sent)')}" for name in names).encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    connection.close()
PYTHON

cat > ask.py <<'PYTHON'
import http.client, socket, sys, time

connection = http.client.HTTPConnection("localhost", timeout=10)
connection.sock = socket.socket(socket.AF_UNIX)
deadline = time.monotonic() + 20
while True:
    try:
        connection.sock.connect(sys.argv[1])
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.05)
connection.request("GET", sys.argv[2])
print(connection.getresponse().read().decode())
PYTHON

python3 upstream.py & pids+=($!)
for _ in $(seq 200); do [ -S uwsgi.sock ] && break; sleep 0.05; done

run() {  # name of the case, and what the handler says beside
  cat > "$1.conf" <<CONF
server.document-root = "$work"
server.bind = "$work/$1.sock"
server.errorlog = "$work/$1.log"
server.modules = ("mod_scgi")
scgi.protocol = "uwsgi"
scgi.server = ("/" => (("socket" => "$work/uwsgi.sock", "check-local" => "disable"$2)))
CONF
  lighttpd -D -f "$1.conf" & pids+=($!)
}
run plain ''
run fixed ', "fix-root-scriptname" => "enable"'

check() {
  local seen
  seen=$(python3 ask.py "$1.sock" "$3?x=%41")
  printf '%-21s %-12s %s\n' "$2" "$3" "$seen"
  [ "$seen" = "$4" ] || { echo "changed: expected $4" >&2; exit 1; }
}
check plain 'as it comes' /shop 'SCRIPT_NAME=/shop PATH_INFO=(not sent) QUERY_STRING=x=A'
check plain 'as it comes' /shop/cart 'SCRIPT_NAME=/shop PATH_INFO=/cart QUERY_STRING=x=A'
check fixed fix-root-scriptname /shop 'SCRIPT_NAME= PATH_INFO=/shop QUERY_STRING=x=A'
check fixed fix-root-scriptname /shop/cart 'SCRIPT_NAME= PATH_INFO=/shop/cart QUERY_STRING=x=A'
