#!/usr/bin/env bash
# OpenTelemetry 1.45.1 for Python: an exporter over HTTP that has exported once before a fork gives its connection to all children.
#
# The SDK is made for forks: in each child it empties the queue of its batch processor and starts the processor's thread anew. The
# exporter keeps its requests.Session, and with it the open socket of the parent's last export. The first child that exports sends
# its spans on that very connection, and so do the second and the parent, each from its own process. Here they take turns, and the
# collector sees the spans of three processes on one connection. At the same time, as workers of a server do, they would write into
# each other's requests and read each other's answers. One would expect a child to open a connection of its own. Who preloads an
# application has to make the provider after the fork, or export nothing before it.
#
# Output seen:
#   3 processes, 1 connection
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

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

names, ports = set(), set()

class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open, as those of collectors do

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for found in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in found.scope_spans:
                names.update(it.name for it in scope.spans)
        ports.add(self.client_address[1])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
subprocess.run([sys.executable, "spans.py", f"http://127.0.0.1:{server.server_port}/v1/traces"], check=True, timeout=60)
print(f"{len(names)} processes, {len(ports)} connection{'s' * (len(ports) > 1)}")
PYTHON

cat > spans.py <<'PYTHON'
import os
import sys

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(sys.argv[1])))

def export():
    provider.get_tracer("a").start_span(str(os.getpid())).end()
    provider.force_flush()

export()
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        export()
        os._exit(0)
    os.waitpid(pid, 0)
PYTHON

seen=$(venv/bin/python collect.py 2>/dev/null)
echo "$seen"
[ "$seen" = "3 processes, 1 connection" ] || { echo "changed: each process has a connection of its own"; exit 1; }
