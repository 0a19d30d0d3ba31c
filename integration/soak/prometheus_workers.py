"""Forks workers, one after the other, that count by prometheus_client and end; a process of its own, with one thread.

Run as ``python -m integration.soak.prometheus_workers WORKERS``, with PROMETHEUS_MULTIPROC_DIR set.
"""

from __future__ import annotations

import os
import sys

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("requests", "That were answered.", ["path", "status"])
SECONDS = Histogram("seconds", "Of them.", ["path"])
RUNNING = Gauge("running", "Workers.", multiprocess_mode="livesum")
STARTED = Gauge("started", "When.")  # of the mode `all`, which is the default

# Of each worker.
PATHS = 5


def work(number: int) -> None:
    """Count what a worker counts in its life."""
    for path in range(PATHS):
        REQUESTS.labels(f"/{path}", "200").inc()
        SECONDS.labels(f"/{path}").observe(0.5)
    RUNNING.set(1)
    STARTED.set(number)


def main(workers: int) -> None:
    """Have workers come and go."""
    for number in range(workers):
        worker = os.fork()
        if worker == 0:
            try:
                work(number)
            finally:
                os._exit(0)
        os.waitpid(worker, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
