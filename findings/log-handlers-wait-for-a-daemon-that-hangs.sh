#!/usr/bin/env bash
# logging-journald 0.6.12 and the standard library's SysLogHandler (Python 3.11): a daemon that stops reading stops all threads.
#
# Both send datagrams to a unix socket. A datagram is taken for something that is sent or lost, and so it is over UDP. A unix socket
# is reliable: when the receiver's queue is full (net.unix.max_dgram_qlen, 10 by default), a blocking send waits for it, without a
# limit. The handler holds its lock meanwhile, so that each thread that logs waits as well. A journald that hangs at its disk, or a
# syslogd that is stopped, then stops a whole server.
#
# Output seen:
#   SysLogHandler waits, and a second thread waits for its lock
#   JournaldLogHandler waits, and a second thread waits for its lock
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"

cat > "$work/hang.py" <<'PYTHON'
import logging
import logging.handlers
import os
import socket
import sys
import threading

import logging_journald

daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
daemon.bind(sys.argv[2])  # nobody reads
if sys.argv[1] == "syslog":
    handler = logging.handlers.SysLogHandler(sys.argv[2])
else:
    handler = logging_journald.JournaldLogHandler(socket_path=sys.argv[2])
log = logging.getLogger("shop")
log.addHandler(handler)
told = 0


def tell(times):
    global told
    for _ in range(times):
        log.error("told")
        told += 1


first = threading.Thread(target=tell, args=(100_000,), daemon=True)
first.start()
first.join(5)
before = told
second = threading.Thread(target=tell, args=(1,), daemon=True)
second.start()
second.join(2)
waits = first.is_alive() and second.is_alive() and told == before
name = type(handler).__name__
print(f"{name} waits, and a second thread waits for its lock" if waits else f"{name} goes on", flush=True)
os._exit(0)
PYTHON

{
  "$work/venv/bin/pip" install --quiet 'logging-journald==0.6.12'
  for kind in syslog journald; do
    timeout 60 "$work/venv/bin/python" "$work/hang.py" "$kind" "$work/$kind"
  done
} | tee "$work/out"
diff - "$work/out" <<'SEEN'
SysLogHandler waits, and a second thread waits for its lock
JournaldLogHandler waits, and a second thread waits for its lock
SEEN
