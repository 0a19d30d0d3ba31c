#!/usr/bin/env bash
# uWSGI 2.0.30 (pyuwsgi 2.0.30.post1) has a backlog of 0 where it is written listen = $(BACKLOG).
#
# Most options are applied after $( ) and %( ) were replaced. Some are applied as soon as their line is read: listen, umask,
# plugins, spooler-processes, include and others. Their placeholders stay as they are, and the number of "$(BACKLOG)" is 0.
# There is no error and no warning. One would expect the value that harakiri gets by the same line.
#
# Output seen:
#   listen = $(BACKLOG)
#   harakiri = 1000
#   your server socket listen backlog is limited to 0 connections
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'pyuwsgi==2.0.30.post1'

cat > app.ini <<'INI'
[uwsgi]
listen = $(BACKLOG)
harakiri = $(BACKLOG)
socket = app.sock
INI

BACKLOG=1000 venv/bin/pyuwsgi --no-server --show-config --ini app.ini > log 2>&1 < /dev/null || true
seen=$(grep -oE '^(listen|harakiri) = .*|your server socket listen backlog is .*' log)
echo "$seen"
expected='listen = $(BACKLOG)
harakiri = 1000
your server socket listen backlog is limited to 0 connections'
[ "$seen" = "$expected" ] || { echo "changed" >&2; exit 1; }
