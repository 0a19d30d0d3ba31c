"""The pieces of the demo's two streams: a plain stream of lines, and a clock as server-sent events.

Both end by themselves. Each application waits between two pieces in its own way, since WSGI, trio and asyncio
differ in that.
"""

import json
import time
from datetime import UTC, datetime

STREAM_CHUNKS = 20
STREAM_INTERVAL_SECONDS = 0.25
CLOCK_TICKS = 600  # ten minutes, so that a forgotten tab does not hold its connection for ever

# With X-Accel-Buffering: no, Nginx passes each piece on at once; `uwsgi_buffering off` does so for all answers.
_LIVE = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
STREAM_HEADERS = {"Content-Type": "text/plain; charset=utf-8", **_LIVE}
CLOCK_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", **_LIVE}

CLOCK_START = b"retry: 3000\n\n"
# EventSource connects again after a plain end. This event tells the page to close it.
CLOCK_END = b"event: end\ndata: {}\n\n"


def stream_chunk(number: int) -> bytes:
    """Return the chunk of this number, from 1 to `STREAM_CHUNKS`: one line of text."""
    sent_at = _now().time().isoformat(timespec="milliseconds")
    return f"chunk {number:2} of {STREAM_CHUNKS} at {sent_at}\n".encode()


def clock_event(tick: int) -> bytes:
    """Return the server-sent event of this tick, from 1 to `CLOCK_TICKS`.

    The format is that of the HTML standard, "Server-sent events": fields a line each, then an empty line.
    """
    data = {
        "time": _now().isoformat(timespec="milliseconds"),
        "tick": tick,
        "ticks": CLOCK_TICKS,
    }
    return f"id: {tick}\ndata: {json.dumps(data)}\n\n".encode()


def seconds_to_next_tick() -> float:
    """Return how long to wait so that the clock ticks on the full second: between 0.5 and 1.5 seconds."""
    wait_seconds = 1 - time.time() % 1
    # A sleep may end a little early. The rest of that second would then give a second tick at once.
    return wait_seconds if wait_seconds >= 0.5 else wait_seconds + 1


def _now() -> datetime:
    return datetime.now(UTC)
