#!/usr/bin/env bash
# prometheus_client 0.26.0: in its multiprocess mode, a scrape fails while another process makes its file.
#
# A process makes its file (open), and then gives it a size (ftruncate) (MmapedDict.__init__ in mmap_dict.py). A scrape that comes
# between the two reads no byte, and raises struct.error: the view answers 500, and Prometheus has a gap. The two calls are a few
# microseconds apart, unless the system takes the CPU away from the process between them, as it does on a busy machine when workers
# are forked; a process that is killed there breaks all scrapes until somebody removes its file. We met it in a test that scraped while
# workers were replaced. Here the process stops itself between the two calls.
# One would have expected that a file without a byte has no figures, as one of 65,536 zeros has none.
#
# Output seen:
#   while the file has no size: error: unpack_from requires a buffer of at least 4 bytes
#   once it has one: jobs_total 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'prometheus-client==0.26.0'
mkdir figures

cat > worker.py <<'PYTHON'
import os
import signal

from prometheus_client import Counter, mmap_dict


class Stopping:
    """The module os, where a look at the size of a new file takes as long as somebody wants."""

    def __getattr__(self, name):
        return getattr(os, name)

    def fstat(self, descriptor):
        status = os.fstat(descriptor)
        os.kill(os.getpid(), signal.SIGSTOP)
        return status


mmap_dict.os = Stopping()
Counter("jobs", "That were done.")
PYTHON

cat > scrape.py <<'PYTHON'
import os
import signal
import subprocess
import sys

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector


def scrape():
    try:
        metrics = MultiProcessCollector(CollectorRegistry()).collect()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).partition(' for unpacking')[0]}"
    return " ".join(f"{it.name} {it.value:g}" for one in metrics for it in one.samples)


worker = subprocess.Popen([sys.executable, "worker.py"])
os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
print("while the file has no size:", scrape())
worker.send_signal(signal.SIGCONT)
worker.wait(10)
print("once it has one:", scrape())
PYTHON

PROMETHEUS_MULTIPROC_DIR=$work/figures timeout 20 venv/bin/python scrape.py | tee seen
diff seen - <<'SEEN'
while the file has no size: error: unpack_from requires a buffer of at least 4 bytes
once it has one: jobs_total 0
SEEN
