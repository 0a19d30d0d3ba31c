"""The id of a request: where it comes from, and which request this code runs for.

An id is found or made when somebody asks for it first: a log event, the header of an answer, the application. A request
that nobody asks about pays for one context variable alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from uwsgibridge.protocol.answers import OwnAnswer
from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.tracing import trace_of

# The request that this code runs for. Each request has a context of its own, which its tasks, `asyncio.to_thread` and
# asgiref's `sync_to_async` take along. A thread that the application starts by itself has none.
current_request: Final[ContextVar[Request | None]] = ContextVar("uwsgibridge.request", default=None)

# What is called with each request in its own context, before the application is.
Begin: TypeAlias = Callable[[Request], object]

# The vars in which frontends send an id, the first one first. A client can set the second one.
DEFAULT_SOURCES: Final = ("REQUEST_ID", "HTTP_X_REQUEST_ID")

# Where a request keeps its id. The accelerator has this text, too. No header of a client becomes a var with such a name.
KEPT_AS: Final = "uwsgibridge.request_id"

# What an id may be that comes from outside: UUIDs, hexadecimal digits, base64 and AWS's Root=1-... are. Nothing of it can
# end a line, a field or a quotation of a log, and a client can't make a log long by it.
_is_safe: Final = re.compile(r"[A-Za-z0-9._~:;/+=@,-]{1,200}").fullmatch

# Of a made id: 128 bits, as of a UUID and of Nginx's $request_id.
_MADE_BYTES: Final = 16
_MADE_AT_ONCE: Final = 64

# Bytes that a header of an answer begins behind: the end of the status line.
_LINE_END: Final = b"\r\n"


# Ids that no request has got yet.
_unused: Final[list[str]] = []


def _make_id() -> str:
    """Make an id that no other process has; from any thread."""
    try:
        return _unused.pop()
    except IndexError:
        # One system call for many of them.
        digits = os.urandom(_MADE_BYTES * _MADE_AT_ONCE).hex()
        size = 2 * _MADE_BYTES
        made = [digits[start : start + size] for start in range(0, len(digits), size)]
        found = made.pop()
        _unused.extend(made)
        return found


# Else a child and its parent would give the same ids.
os.register_at_fork(after_in_child=_unused.clear)


class RequestIds:
    """Where the ids of this process come from; there is one object of this class.

    Attributes:
        sources: names of vars, the first one first.
    """

    def __init__(self) -> None:
        self.sources: Sequence[str] = DEFAULT_SOURCES

    def of(self, request: Request) -> str:
        """Give the id of a request, which is the same from the first call on; from any thread."""
        variables = request.vars
        known = variables.get(KEPT_AS)
        if known is not None:
            if _is_safe(known):
                return known
            del variables[KEPT_AS]  # a frontend has a var of this very name
        for source in self.sources:
            found = variables.get(source)
            if found and _is_safe(found):
                break
        else:
            found = _make_id()
        # One of several threads is the first.
        return variables.setdefault(KEPT_AS, found)


request_ids: Final = RequestIds()


def current_request_id() -> str | None:
    """Give the id of the request that this code runs for, as the log has it.

    Returns:
        The id; None outside of a request, and in a thread that the application has started by itself.
    """
    request = current_request.get()
    return None if request is None else request_ids.of(request)


# The name that applications know it by: `uwsgibridge.request_id()`.
request_id: Final = current_request_id


def fields_of(request: Request) -> dict[str, str]:
    """Give what each log event about a request has, so that all of its events can be found."""
    fields = {"request_id": request_ids.of(request)}
    trace = trace_of(request)
    if trace is not None and trace.trace_id:
        fields["trace_id"] = trace.trace_id
        fields["span_id"] = trace.span_id
    return fields


def fields_of_current_request() -> dict[str, str]:
    """Give what an event has that is logged while a request runs; nothing outside of a request."""
    request = current_request.get()
    return {} if request is None else fields_of(request)


def add_request_id(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add ``request_id`` to an event of structlog, as a processor, and what is known of the trace; what the event has stays."""
    return {**fields_of_current_request(), **event}


class IdHeader:
    """The header of ``--request-id-header``: each answer has it, and each request that an application gets.

    Args:
        name: such as ``X-Request-ID``.
    """

    def __init__(self, name: str) -> None:
        self.name = name.encode("ascii")
        self._var = "HTTP_" + name.upper().replace("-", "_")
        self._lower_name = self.name.lower()

    def tell_application(self, request: Request) -> None:
        """Make the id the request's own header, in the place of one that the client has sent."""
        request.vars[self._var] = request_ids.of(request)

    def add_to(self, request: Request, headers: Any) -> Any:
        """Give the headers of an answer with this one; one that the application has set itself stays.

        Args:
            request: what was asked.
            headers: pairs of bytes. What is none of that is given back with nothing added: whoever sends it refuses it.
        """
        try:
            pairs = [*headers]
        except TypeError:
            return headers
        try:
            if any(name.lower() == self._lower_name for name, _ in pairs):
                return pairs
        except (AttributeError, TypeError, ValueError):
            return pairs
        return [*pairs, (self.name, request_ids.of(request).encode("ascii"))]

    def add_to_own(self, request: Request, answer: OwnAnswer) -> OwnAnswer:
        """Give an answer of the bridge with this header; an empty answer stays empty."""
        line, end, rest = answer.data.partition(_LINE_END)
        if not end:
            return answer
        header = b"%s: %s" % (self.name, request_ids.of(request).encode("ascii"))
        return OwnAnswer(answer.status, line + end + header + end + rest, answer.body_bytes)
