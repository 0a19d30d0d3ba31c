#!/usr/bin/env bash
# prometheus_client 0.26.0: in its multiprocess mode, a gauge of the mode "min" is 0 as soon as a process was forked that counts anything.
#
# A server loads an application, which sets a gauge, and forks its workers. A worker that then counts something, of whatever name,
# makes files of its own, and gets all figures of its parent in them with the value 0 (MmapedValue.__reset in values.py;
# MmapedDict.read_value writes what it does not find). Nobody has set the gauge to 0, and nobody can tell this 0 from one that was
# set. So "min" and "livemin" are 0 from the first fork on, until each process has set the gauge; "all" gets a series with 0 for
# each process; and in the worker the gauge has lost the value from before the fork.
# One would have expected that a process takes part in a gauge that it has set, as with "mostrecent", which leaves out what has no time.
#
# Output seen:
#   before the fork: min 5, max 5, mostrecent 5, all 5
#   in the child: min 0, max 0, mostrecent 0, all 0
#   after it has counted something else: min 0, max 5, mostrecent 5, all 0 5
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'prometheus-client==0.26.0'
mkdir figures

cat > fork.py <<'PYTHON'
import os

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.multiprocess import MultiProcessCollector

MODES = ("min", "max", "mostrecent", "all")
places = {mode: Gauge(f"places_{mode}", "Free ones.", multiprocess_mode=mode) for mode in MODES}
jobs = Counter("jobs", "That were done.")


def scraped(mode):
    metrics = MultiProcessCollector(CollectorRegistry()).collect()
    values = [it.value for one in metrics for it in one.samples if it.name == f"places_{mode}"]
    return " ".join(f"{it:g}" for it in sorted(values))


def tell(when, value):
    print(f"{when}: " + ", ".join(f"{mode} {value(mode)}" for mode in MODES), flush=True)


for gauge in places.values():
    gauge.set(5)
tell("before the fork", scraped)
child = os.fork()
if child == 0:
    tell("in the child", lambda mode: f"{places[mode]._value.get():g}")
    jobs.inc()
    os._exit(0)
os.waitpid(child, 0)
tell("after it has counted something else", scraped)
PYTHON

PROMETHEUS_MULTIPROC_DIR=$work/figures timeout 20 venv/bin/python fork.py | tee seen
diff seen - <<'SEEN'
before the fork: min 5, max 5, mostrecent 5, all 5
in the child: min 0, max 0, mostrecent 0, all 0
after it has counted something else: min 0, max 5, mostrecent 5, all 0 5
SEEN
