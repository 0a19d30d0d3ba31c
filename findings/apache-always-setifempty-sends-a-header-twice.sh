#!/usr/bin/env bash
# Apache 2.4.71 (Debian 12's apache2-bin 2.4.71-1~deb12u1): `Header always setifempty` adds a header that a proxied answer already has.
#
# mod_headers has two tables: one for the answers of handlers, and one that errors of Apache's own have as well, which `always`
# means. What comes from a backend is in the first, whatever its status. `setifempty` looks only into the table that it writes
# to: with `always` it finds nothing of that name there, and the client gets both values. Guides to security headers have
# `Header always set`, which does the same. Without `always`, the application's value stands alone, also in its answers 404 and
# 500. One would expect that "if empty" is said of the answer.
#
# Output seen:
#   Header setifempty         200: DENY
#   Header setifempty         404: DENY
#   Header always setifempty  200: SAMEORIGIN DENY
#   Header always setifempty  404: SAMEORIGIN DENY
set -euo pipefail
export PATH=$PATH:/usr/sbin
if ! command -v apache2 > /dev/null; then
  apt-get install -qq -y --no-install-recommends apache2-bin=2.4.71-1~deb12u1 > /dev/null
fi
version=$(apache2 -v)
[[ $version == *Apache/2.4.71* ]] || { echo "this is about Apache 2.4.71, not $version" >&2; exit 1; }
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
chmod 755 .

# An application that says DENY itself.
cat > upstream.py <<'PYTHON'
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port.new", "w") as file:
    print(server.server_port, file=file)
os.rename("port.new", "port")
server.serve_forever()
PYTHON
python3 upstream.py & pids+=($!)
for _ in $(seq 200); do [ -f port ] && break; sleep 0.05; done

check() {  # the directive, what is seen of each answer
  local port seen status
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  cat > apache.conf <<APACHE
$(for name in mpm_event authz_core proxy proxy_http headers; do
  echo "LoadModule ${name}_module /usr/lib/apache2/modules/mod_$name.so"
done)
$([ "$(id -u)" != 0 ] || printf 'User www-data\nGroup www-data\n')
ServerRoot $work
ServerName x
PidFile $work/pid.$port
DefaultRuntimeDir $work
ErrorLog $work/error.log
Listen 127.0.0.1:$port
$1 X-Frame-Options SAMEORIGIN
ProxyPass / http://127.0.0.1:$(cat port)/
APACHE
  apache2 -DFOREGROUND -f "$work/apache.conf" & pids+=($!)
  for _ in $(seq 200); do curl -s -o body "http://127.0.0.1:$port/" && break; sleep 0.05; done
  for path in page missing; do
    status=$(curl -s -o body -D head -w '%{http_code}' "http://127.0.0.1:$port/$path")
    seen="$status: $(tr -d '\r' < head | sed -n 's/^X-Frame-Options: //Ip' | paste -sd ' ')"
    printf '%-24s  %s\n' "$1" "$seen"
    [ "$seen" = "$status: $2" ] || { echo "changed: expected $2" >&2; exit 1; }
  done
}
check 'Header setifempty' 'DENY'
check 'Header always setifempty' 'SAMEORIGIN DENY'
