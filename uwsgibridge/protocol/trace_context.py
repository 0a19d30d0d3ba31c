"""W3C Trace Context: what the header ``traceparent`` says (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# Section 3.2.2: lower-case hexadecimal digits alone, and not all zero. A later version may go on behind a further "-"; this
# version (00) ends with its flags, and ff is no version (section 3.2.2.1).
_FORM: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<span_id>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?"
)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


class TraceParent(NamedTuple):
    """What is known of a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 of them: of the caller's part of the trace.
    """

    trace_id: str
    span_id: str


def parse_traceparent(text: str) -> TraceParent | None:
    """Read a ``traceparent``; None where it has to be taken for none (section 3.2.2.3)."""
    found = _FORM.fullmatch(text.strip(" \t"))
    if found is None or found["version"] == "ff" or (found["more"] and found["version"] == "00"):
        return None
    if found["trace_id"] == _NO_TRACE or found["span_id"] == _NO_SPAN:
        return None
    return TraceParent(found["trace_id"], found["span_id"])


def format_traceparent(parent: TraceParent) -> str:
    """Write a ``traceparent`` of version 00 whose trace nobody is known to record."""
    return f"00-{parent.trace_id}-{parent.span_id}-00"
