#!/usr/bin/env bash
# mcp 2.3.0: each session over SSE ends with a second `http.response.start`, which ASGI does not allow.
#
# The endpoint of MCPServer.sse_app() sends the stream itself, by `connect_sse`, and then returns an empty Response,
# which Starlette sends as well: when the session is over, the server gets start, body ..., start, body on one request.
# A server that holds to the order of messages has something to say for each session: one that tells its streams of a
# stop by `http.disconnect`, while their clients are still there, then logs as many faults as there are open sessions.
#
# Output seen:
#   messages: ['http.response.start', 'http.response.body', 'http.response.start', 'http.response.body']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'mcp==2.3.0' 2>pip.log || { cat pip.log >&2; exit 1; }

cat > check.py <<'PYTHON'
import asyncio

from mcp.server.mcpserver import MCPServer


async def main():
    app = MCPServer("tools").sse_app()
    begun = asyncio.Event()
    messages = []
    first = True

    async def receive():
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        messages.append(message)
        if b"endpoint" in message.get("body", b""):
            begun.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/sse",
        "raw_path": b"/sse",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost:80"), (b"accept", b"text/event-stream")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await asyncio.wait_for(app(scope, receive, send), 20)
    kinds = [it["type"] for it in messages]
    print("messages:", kinds)
    assert kinds.count("http.response.start") == 2


asyncio.run(main())
PYTHON
venv/bin/python check.py 2>log || { cat log >&2; echo "changed" >&2; exit 1; }
