#!/usr/bin/env bash
# uWSGI 2.0.31, built from PyPI's source, which takes no YAML library whether there is one or not: its YAML is another language.
#
# Where its profile does not say yaml = libyaml, uWSGI has a reader of its own. It takes lines of the form "name: value". Quotes are a part of the
# value, so that processes: "3" is no process. A # begins a comment wherever it stands, also within a value. And the first line that has no ": "
# and a value, such as the "env:" of a list, ends the reading: what stands below it is left out, without a word. A
# build with libyaml (Debian's) takes the same file otherwise. One would have expected one reading of YAML, or an error.
#
# Output seen:
#   socket = /tmp/site.sock
#   processes = "3"
#   module = site
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --no-binary uwsgi 'uwsgi==2.0.31'

cat > site.yaml <<'YAML'
uwsgi:
  socket: /tmp/site.sock
  processes: "3"
  module: site#wsgi
  env:
    - A=1
    - B=2
  need-app: true
  harakiri: 30
YAML
UWSGI_NO_SERVER=true UWSGI_SHOW_CONFIG=true venv/bin/uwsgi --yaml site.yaml 2>&1 |
    sed -n '/^\[uwsgi\]/,/^;end/p' | grep -v '^\[uwsgi\]\|^;end\|^yaml = \|^no-server\|^show-config' > seen

cat > expected <<'TEXT'
socket = /tmp/site.sock
processes = "3"
module = site
TEXT
cat seen
diff expected seen
