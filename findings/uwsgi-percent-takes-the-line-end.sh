#!/usr/bin/env bash
# uWSGI 2.0.30 (pyuwsgi 2.0.30.post1) takes a % at the end of a comment, and the next line is lost.
#
# Before anything else, uWSGI replaces each % of a file together with the byte behind it. It does so in comments too, and a
# line's end is a byte like others: "# leave 20%" makes a comment of the line below it. There is no warning. One would expect
# that a comment has no effect, and that the password of a URL (p%40ss) stays as it is. It becomes p0ss, since %4 is the
# fifth directory of the file's path, or nothing where there is none. (What works is %%.)
#
# Output seen:
#   threads = 2
#   env = URL=postgres://u:p0ss@db/x
#   env = URL=postgres://u:p%40ss@db/x
set -euo pipefail
# A path that has no fifth directory.
export TMPDIR=/tmp
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'pyuwsgi==2.0.30.post1'

cat > app.ini <<'INI'
[uwsgi]
# leave 20%
processes = 4
threads = 2
env = URL=postgres://u:p%40ss@db/x
env = URL=postgres://u:p%%40ss@db/x
INI

venv/bin/pyuwsgi --no-server --show-config --ini app.ini > log 2>&1 < /dev/null || true
seen=$(sed -n '/^ini = /,/^;end of configuration/p' log | sed '1d;$d')
echo "$seen"
expected='threads = 2
env = URL=postgres://u:p0ss@db/x
env = URL=postgres://u:p%40ss@db/x'
[ "$seen" = "$expected" ] || { echo "changed" >&2; exit 1; }
