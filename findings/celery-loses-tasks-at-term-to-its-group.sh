#!/usr/bin/env bash
# Celery 5.7.0 on Python 3.11: SIGTERM to the worker alone waits for the running task, to its process group it ends the task.
#
# A warm shutdown is what SIGTERM asks for: the worker accepts nothing more, and the task that runs may end. The processes
# of its pool (prefork, the default) have SIGTERM's default action, so that they die of it. Whoever sends the signal to the
# group, or to all processes of a service, so loses each running task: it was acknowledged when it began, and no broker
# delivers it again (task_acks_late is off). The worker says "Warm shutdown" all the same. systemd does so with its default
# KillMode=control-group, and so does timeout(1). One would expect that the pool leaves the signal to the worker, as it
# does with SIGINT.
#
# SIGTERM has to go to the first process alone: KillMode=mixed of systemd, timeout --foreground.
#
# Output seen:
#   SIGTERM to the worker: the task has ended
#   SIGTERM to its group: the task is lost, after "Warm shutdown"
set -euo pipefail
work=$(mktemp -d)
worker=
trap 'test -z "$worker" || kill -KILL -- "-$worker" 2> kill.err || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'celery==5.7.0'

cat > shop.py <<'PYTHON'
import os
import time
from pathlib import Path

from celery import Celery

broker = Path("broker")
broker.mkdir(exist_ok=True)
app = Celery("shop", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": "broker", "data_folder_out": "broker", "control_folder": "control",
}


@app.task
def order():
    Path("begun").touch()
    time.sleep(3)
    Path("ended").touch()
PYTHON

wait_for() { # wait until a command succeeds, half a minute at the most
    local tries
    for tries in $(seq 300); do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    echo "in vain: $*" >&2
    exit 1
}
has_ended() { ! grep -qs 'State:.[^Z]' "/proc/$1/status"; }

run() { # $1: whether the group gets the signal, or the worker alone
    rm -rf broker control begun ended log
    C_FORCE_ROOT=1 setsid venv/bin/celery -A shop worker --concurrency 1 --loglevel info > log 2>&1 &
    worker=$!
    wait_for grep -qs 'ready\.' log
    venv/bin/python -c 'import shop; shop.order.delay()'
    wait_for test -e begun
    if test "$1" = group; then kill -TERM -- "-$worker"; else kill -TERM "$worker"; fi
    wait_for has_ended "$worker"
    wait "$worker" || true
    worker=
    grep -q 'Warm shutdown' log
}

run worker
test -e ended
echo 'SIGTERM to the worker: the task has ended'
run group
test ! -e ended
echo 'SIGTERM to its group: the task is lost, after "Warm shutdown"'
