#!/usr/bin/env bash
# uWSGI 2.0.30 (pyuwsgi 2.0.30.post1) reads YAML only as far as the first list, and keeps quotes.
#
# uWSGI reads YAML by libyaml only where its build says so. Wheels and builds from PyPI have a reader of their own, which knows
# "key: value" and nothing else. A list, or a key without a value, ends the reading: what stands below is not applied, and nothing
# is logged. Quotes belong to the value, so that processes: "4" is no number. Each # begins a comment, within a word too. One
# would expect YAML, or an error.
#
# Output seen:
#   processes = "4"
#   procname = a
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'pyuwsgi==2.0.30.post1'

cat > app.yaml <<'YAML'
uwsgi:
  processes: "4"
  procname: a#b
  env:
    - A=1
  threads: 2
YAML

venv/bin/pyuwsgi --no-server --show-config --yaml app.yaml > log 2>&1 < /dev/null || true
seen=$(sed -n '/^yaml = /,/^;end of configuration/p' log | sed '1d;$d')
echo "$seen"
expected='processes = "4"
procname = a'
[ "$seen" = "$expected" ] || { echo "changed" >&2; exit 1; }
