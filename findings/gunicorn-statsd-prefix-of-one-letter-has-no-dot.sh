#!/usr/bin/env bash
# gunicorn 27.0.1, CPython 3.11.7: a statsd_prefix of one letter runs into the names of its figures.
#
# gunicorn's documentation says of statsd_prefix that a dot is added behind it where none is given. The pattern that adds it wants two
# characters before the dot: "a" is sent as "agunicorn.requests", which no dashboard for "a.gunicorn.requests" finds, and "ab" as
# "ab.gunicorn.requests". Nothing is logged. One would have expected the dot for each prefix.
#
# Output seen:
#   statsd_prefix=a: agunicorn.requests:1|c|@1.0
#   statsd_prefix=a.: a.gunicorn.requests:1|c|@1.0
#   statsd_prefix=ab: ab.gunicorn.requests:1|c|@1.0
#   statsd_prefix=ab..: ab.gunicorn.requests:1|c|@1.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'gunicorn==27.0.1'

cat > sends.py <<'PYTHON'
import socket

from gunicorn.config import Config
from gunicorn.instrument.statsd import Statsd

for prefix in ("a", "a.", "ab", "ab.."):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(30)
        receiver.bind(("127.0.0.1", 0))
        config = Config()
        config.set("statsd_host", f"127.0.0.1:{receiver.getsockname()[1]}")
        config.set("statsd_prefix", prefix)
        Statsd(config).increment("gunicorn.requests", 1)
        print(f"statsd_prefix={prefix}: {receiver.recv(1000).decode()}")
PYTHON

venv/bin/python -W ignore sends.py > seen

cat > expected <<'TEXT'
statsd_prefix=a: agunicorn.requests:1|c|@1.0
statsd_prefix=a.: a.gunicorn.requests:1|c|@1.0
statsd_prefix=ab: ab.gunicorn.requests:1|c|@1.0
statsd_prefix=ab..: ab.gunicorn.requests:1|c|@1.0
TEXT
cat seen
diff expected seen
