#!/usr/bin/env bash
# OpenTelemetry 1.45.1 for Python: what a process has counted before it forks is counted again by each of its children.
#
# A server with preloading imports the application once and forks its workers. The SDK is made for that: in each child it starts
# the thread of its metric reader anew, and gives the resource a service.instance.id of its own. But the sums go on from what the
# parent had. Each worker then reports that as its own, as a new instance with the parent's start time: a backend that adds up the
# instances shows 1 (parent) + 3 x 2 (children) = 7, where 1 + 3 x 1 = 4 things have happened. One would expect a sum to begin at 0 with a
# new instance. Workers that are recycled, thousands of them in a week, each add it once more.
#
# Output seen:
#   counted 4, reported 7 by 4 instances
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'opentelemetry-sdk==1.45.1' \
  'opentelemetry-exporter-otlp-proto-http==1.45.1'

cat > collect.py <<'PYTHON'
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

last = {}

class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            resource = {it.key: it.value.string_value for it in found.resource.attributes}
            for scope in found.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.sum.data_points:
                        last[resource["service.instance.id"]] = point.as_int
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
subprocess.run([sys.executable, "count.py", f"http://127.0.0.1:{server.server_port}/v1/metrics"], check=True, timeout=60)
print(f"counted 4, reported {sum(last.values())} by {len(last)} instances")
PYTHON

cat > count.py <<'PYTHON'
import os
import sys

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

reader = PeriodicExportingMetricReader(OTLPMetricExporter(sys.argv[1]), export_interval_millis=3_600_000)
provider = MeterProvider([reader])
counter = provider.get_meter("a").create_counter("things")
counter.add(1)
provider.force_flush()
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        counter.add(1)
        provider.force_flush()
        os._exit(0)
    os.waitpid(pid, 0)
PYTHON

seen=$(venv/bin/python collect.py 2>/dev/null)
echo "$seen"
[ "$seen" = "counted 4, reported 7 by 4 instances" ] || { echo "changed: the sums of a child no longer go on from its parent's"; exit 1; }
