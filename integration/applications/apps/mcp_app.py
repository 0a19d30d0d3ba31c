"""A server of the Model Context Protocol by its own SDK, over both of its HTTP transports."""

from __future__ import annotations

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from sse_starlette.sse import EventSourceResponse
from starlette.responses import PlainTextResponse

# The head of a stream leaves with its first event (ASGI, "Response Start"), which is a ping where there is no other.
EventSourceResponse.DEFAULT_PING_INTERVAL = 1

server = MCPServer("tools")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers, in a thread."""
    return a + b


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Count, and tell of each step."""
    for step in range(to):
        await ctx.report_progress(step + 1, to)
        await anyio.sleep(0.01)
    return f"counted to {to}"


@server.custom_route("/up", methods=["GET"])
async def up(_request):
    return PlainTextResponse("up")


# Each answers 421 to a Host header that is not of 127.0.0.1 or localhost; the last one knows another.
streamable = server.streamable_http_app()
sse = server.sse_app()
named = MCPServer("tools").streamable_http_app(
    transport_security=TransportSecuritySettings(allowed_hosts=["example.org"])
)
