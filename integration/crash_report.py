"""What the event "worker ended" says of requests that are lost."""

from __future__ import annotations

from uwsgibridge.testing.log_stream import LogEvent


def count_held(report: LogEvent) -> int:
    """Count what the worker held: requests, and connections whose request it had not read yet."""
    named = report.get("held", [])
    assert isinstance(named, list)
    counts = [report.get(it, 0) for it in ("held_more", "held_connections")]
    return len(named) + sum(it for it in counts if isinstance(it, int))
