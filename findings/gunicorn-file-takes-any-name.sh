#!/usr/bin/env bash
# gunicorn 27.0.1, CPython 3.11.7: names of flags do nothing in gunicorn.conf.py, and --chdir comes too late for that file.
#
# Seven settings have another name in the file than on the command line: --access-logfile is accesslog, --preload is preload_app,
# --keep-alive is keepalive. A line with the flag's name changes nothing, and nobody is told: --check-config finds nothing wrong. So it is
# with every slip (max_request). gunicorn.conf.py is looked for in the directory of the start: with --chdir, the file that lies in the
# directory of the application is not read. One would have expected a warning for the names, and the file of the directory that
# gunicorn runs in.
#
# Output seen:
#   gunicorn --check-config: exit status 0, 0 lines
#   accesslog = None
#   keepalive = 2
#   max_requests = 0
#   preload_app = False
#   in the directory: workers = 7
#   with --chdir: workers = 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'gunicorn==27.0.1'

cat > app.py <<'PYTHON'
def app(environ, start_response):
    start_response("200 OK", [])
    return []
PYTHON

cat > gunicorn.conf.py <<'PYTHON'
access_logfile = "-"
keep_alive = 75
max_request = 1000
preload = True
PYTHON
mkdir site
cp app.py site/
echo 'workers = 7' > site/gunicorn.conf.py
unset WEB_CONCURRENCY GUNICORN_CMD_ARGS

gunicorn=$work/venv/bin/gunicorn
{
    status=0
    "$gunicorn" --check-config app:app > checked 2>&1 || status=$?
    echo "gunicorn --check-config: exit status $status, $(grep -c . checked || true) lines"
    "$gunicorn" --print-config app:app | sed -n -E 's/^(accesslog|keepalive|max_requests|preload_app) +=/\1 =/p'
    rm gunicorn.conf.py
    echo "in the directory: $(cd site && "$gunicorn" --print-config app:app | sed -n -E 's/^workers +=/workers =/p')"
    echo "with --chdir: $("$gunicorn" --chdir site --print-config app:app | sed -n -E 's/^workers +=/workers =/p')"
} > seen

cat > expected <<'TEXT'
gunicorn --check-config: exit status 0, 0 lines
accesslog = None
keepalive = 2
max_requests = 0
preload_app = False
in the directory: workers = 7
with --chdir: workers = 1
TEXT
cat seen
diff expected seen
